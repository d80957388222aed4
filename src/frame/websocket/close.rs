//! What close frames carry (RFC 6455 §5.5.1, §7.4).

use super::{CONTROL_BYTES_MAX, CloseCode, CloseFrame, Control, FrameError, control_frame};

/// A whole close frame. A reason that does not fit is cut at a character.
pub fn close_frame(code: CloseCode, reason: &str, mask: Option<[u8; 4]>) -> Vec<u8> {
    let code = u16::from(code).to_be_bytes();
    let reason = reason
        .get(..reason.floor_char_boundary(CONTROL_BYTES_MAX - code.len()))
        .unwrap_or_default();
    control_frame(Control::Close, &[&code, reason.as_bytes()].concat(), mask)
}

/// Reads the payload of a close frame, which may say nothing at all.
pub(super) fn parse(payload: &[u8]) -> Result<Option<CloseFrame>, FrameError> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() {
            Ok(None)
        } else {
            Err(FrameError::CloseCodeCut)
        };
    };
    let code = u16::from_be_bytes(*code);
    if !may_be_sent(code) {
        return Err(FrameError::CloseCodeForbidden(code));
    }
    let reason = str::from_utf8(reason).map_err(|_| FrameError::ReasonNotUtf8)?;
    Ok(Some(CloseFrame {
        code: code.into(),
        reason: reason.into(),
    }))
}

/// Codes that mean something on the wire: the registered ones but for those that only describe a close without a code (1005, 1006,
/// 1015), and the ranges for libraries and applications.
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_codes_that_may_be_sent_are_accepted() {
        for code in 0..=u16::MAX {
            let read = parse(&code.to_be_bytes());
            if matches!(code, 1000 | 1001 | 1002 | 1003 | 1007..=1014 | 3000..=4999) {
                assert_eq!(u16::from(read.unwrap().unwrap().code), code);
            } else {
                assert_eq!(read, Err(FrameError::CloseCodeForbidden(code)));
            }
        }
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let frame = close_frame(CloseCode::Normal, &"é".repeat(100), None);
        assert_eq!(frame.len(), 2 + 2 + 122);
        let read = parse(&frame[2..]).unwrap().unwrap();
        assert_eq!(
            (read.code, read.reason.as_str()),
            (CloseCode::Normal, "é".repeat(61).as_str())
        );
    }
}
