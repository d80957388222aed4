//! What a program provides: a hub, its methods, and what they answer.

use std::any::type_name;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, Stream, StreamExt as _};

use super::byte_queue::Receiver;
use super::caller::Caller;
use super::clients::Clients;
use crate::protocol::hub::message::Value;

/// A hub: methods that clients call, and what happens when one comes or goes.
///
/// All clients of the hub share one value of this type. Of one client up to eight calls run at a time; they start in the order
/// in which the client made them.
pub trait Hub: Send + Sync + 'static {
    /// A client has connected, or has moved here from another app server ([`Caller::migrated_from`]). Its calls wait until this is done; an error turns the client away.
    ///
    /// What the client sends is not read meanwhile, so its own results must not be waited for here.
    fn connected(&self, caller: &Caller) -> impl Future<Output = Result<(), HubError>> + Send {
        let _ = caller;
        async { Ok(()) }
    }

    /// A client is gone, or has moved to another app server. `error` says why, unless it left in good order.
    fn disconnected(
        &self,
        caller: &Caller,
        error: Option<&str>,
    ) -> impl Future<Output = ()> + Send {
        let _ = (caller, error);
        async {}
    }

    /// The app server shuts down, and its clients are about to leave or to be moved; `clients` can still be told so.
    ///
    /// Runs where the shutdown waits for clients or moves them, once the service sends no new ones. It may take no longer than the
    /// shutdown as a whole.
    fn stopping(&self, clients: &Clients) -> impl Future<Output = ()> + Send {
        let _ = clients;
        async {}
    }

    /// A client calls a method.
    fn invoke(
        &self,
        caller: &Caller,
        call: Invocation,
    ) -> impl Future<Output = Result<Answer, HubError>> + Send;
}

/// A call of a hub method.
#[derive(Debug)]
pub struct Invocation {
    target: String,
    arguments: Vec<Value>,
    streams: VecDeque<Items>,
}

impl Invocation {
    pub(super) fn new(target: String, arguments: Vec<Value>, streams: VecDeque<Items>) -> Self {
        Self {
            target,
            arguments,
            streams,
        }
    }

    /// The method's name, as the client wrote it.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Takes the arguments as a tuple of as many types. Fails unless number and types are right.
    pub fn bind<T: FromArguments>(&mut self) -> Result<T, HubError> {
        T::from_arguments(std::mem::take(&mut self.arguments))
    }

    /// Takes the next stream that the client feeds.
    pub fn stream(&mut self) -> Result<Items, HubError> {
        self.streams
            .pop_front()
            .ok_or_else(|| HubError::Arguments("The method expects a stream.".into()))
    }
}

/// A stream from a client. It ends when the client ends it, and with an error when the client says so or is gone.
#[derive(Debug)]
pub struct Items {
    pub(super) receiver: Receiver<StreamPart>,
    pub(super) is_over: bool,
}

/// What comes through the queue of a stream.
#[derive(Debug)]
pub(super) enum StreamPart {
    Item(Value),
    End(Option<String>),
}

impl Items {
    /// The next item, `None` at the end.
    pub async fn next<T: FromValue>(&mut self) -> Option<Result<T, HubError>> {
        if self.is_over {
            return None;
        }
        match self.receiver.recv().await {
            Some(StreamPart::Item(value)) => Some(T::from_value(value)),
            Some(StreamPart::End(error)) => {
                self.is_over = true;
                error.map(|error| Err(HubError::Message(error)))
            }
            None => {
                self.is_over = true;
                Some(Err(HubError::Internal("The client is gone.".into())))
            }
        }
    }
}

/// What a method answers.
pub enum Answer {
    /// That it is done.
    Nothing,
    /// A value.
    Value(Value),
    /// A stream of values, each of which the client gets as soon as it is there.
    Stream(BoxStream<'static, Result<Value, HubError>>),
}

impl Answer {
    /// A value.
    pub fn value(value: impl Into<Value>) -> Self {
        Self::Value(value.into())
    }

    /// A list of texts.
    pub fn texts(texts: impl IntoIterator<Item = impl Into<Value>>) -> Self {
        Self::Value(Value::Array(texts.into_iter().map(Into::into).collect()))
    }

    /// A stream of values.
    pub fn stream<T: Into<Value>>(
        items: impl Stream<Item = Result<T, HubError>> + Send + 'static,
    ) -> Self {
        Self::Stream(items.map(|item| item.map(Into::into)).boxed())
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("Nothing"),
            Self::Value(value) => f.debug_tuple("Value").field(value).finish(),
            Self::Stream(_) => f.write_str("Stream(…)"),
        }
    }
}

/// Why a method did not do what it was called for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HubError {
    /// An error that the client is meant to read, `HubException` in .NET.
    #[error("HubException: {0}")]
    Message(String),
    /// There is no such method.
    #[error("no such method")]
    UnknownMethod,
    /// Number or types of the arguments are not what the method expects.
    #[error("InvalidDataException: {0}")]
    Arguments(String),
    /// Anything else. Clients read it only where detailed errors are allowed.
    #[error("InvalidOperationException: {0}")]
    Internal(String),
}

impl HubError {
    /// An error that the client is meant to read.
    pub fn new(message: impl Into<String>) -> Self {
        Self::Message(message.into())
    }

    /// Whether the client may read it even where detailed errors are not allowed.
    pub(super) fn is_public(&self) -> bool {
        matches!(self, Self::Message(_))
    }
}

/// A type that an argument can be taken as.
pub trait FromValue: Sized {
    /// Takes the value over.
    fn from_value(value: Value) -> Result<Self, HubError>;
}

/// The types that a method's arguments can be taken as: a tuple with one type for each.
pub trait FromArguments: Sized {
    /// Takes the arguments over.
    fn from_arguments(arguments: Vec<Value>) -> Result<Self, HubError>;
}

impl FromValue for Value {
    fn from_value(value: Value) -> Result<Self, HubError> {
        Ok(value)
    }
}

impl FromValue for String {
    fn from_value(value: Value) -> Result<Self, HubError> {
        let Value::String(text) = value else {
            return Err(wrong_type::<Self>());
        };
        text.into_str().ok_or_else(wrong_type::<Self>)
    }
}

impl FromValue for i64 {
    fn from_value(value: Value) -> Result<Self, HubError> {
        value.as_i64().ok_or_else(wrong_type::<Self>)
    }
}

impl FromValue for u32 {
    fn from_value(value: Value) -> Result<Self, HubError> {
        value
            .as_u64()
            .and_then(|number| number.try_into().ok())
            .ok_or_else(wrong_type::<Self>)
    }
}

impl FromValue for f64 {
    fn from_value(value: Value) -> Result<Self, HubError> {
        value.as_f64().ok_or_else(wrong_type::<Self>)
    }
}

impl FromValue for bool {
    fn from_value(value: Value) -> Result<Self, HubError> {
        value.as_bool().ok_or_else(wrong_type::<Self>)
    }
}

/// Bytes, which JSON carries as base64 text.
impl FromValue for Vec<u8> {
    fn from_value(value: Value) -> Result<Self, HubError> {
        if let Value::Binary(bytes) = value {
            return Ok(bytes);
        }
        value
            .as_str()
            .and_then(|text| STANDARD.decode(text).ok())
            .ok_or_else(wrong_type::<Self>)
    }
}

impl FromValue for Vec<String> {
    fn from_value(value: Value) -> Result<Self, HubError> {
        let Value::Array(values) = value else {
            return Err(wrong_type::<Self>());
        };
        values.into_iter().map(String::from_value).collect()
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: Value) -> Result<Self, HubError> {
        if value.is_nil() {
            Ok(None)
        } else {
            T::from_value(value).map(Some)
        }
    }
}

macro_rules! from_arguments {
    ($count:literal: $($name:ident)*) => {
        impl<$($name: FromValue),*> FromArguments for ($($name,)*) {
            #[expect(non_snake_case, reason = "a value is named after its type")]
            fn from_arguments(arguments: Vec<Value>) -> Result<Self, HubError> {
                let provided = arguments.len();
                let Ok::<[Value; $count], _>([$($name),*]) = arguments.try_into() else {
                    return Err(HubError::Arguments(format!(
                        "Invocation provides {provided} argument(s) but target expects {}.",
                        $count
                    )));
                };
                Ok(($($name::from_value($name)?,)*))
            }
        }
    };
}

impl FromArguments for () {
    fn from_arguments(arguments: Vec<Value>) -> Result<Self, HubError> {
        match arguments.len() {
            0 => Ok(()),
            provided => Err(HubError::Arguments(format!(
                "Invocation provides {provided} argument(s) but target expects 0."
            ))),
        }
    }
}

from_arguments!(1: A);
from_arguments!(2: A B);
from_arguments!(3: A B C);
from_arguments!(4: A B C D);

fn wrong_type<T>() -> HubError {
    HubError::Arguments(format!(
        "Error binding arguments. A value is not of type {}.",
        type_name::<T>()
    ))
}

/// A [`Hub`] whose type is forgotten, so that everything behind it exists once and not once for each hub.
pub(super) trait AnyHub: Send + Sync + 'static {
    fn connected<'a>(&'a self, caller: &'a Caller) -> BoxFuture<'a, Result<(), HubError>>;

    fn disconnected<'a>(&'a self, caller: &'a Caller, error: Option<&'a str>) -> BoxFuture<'a, ()>;

    fn stopping<'a>(&'a self, clients: &'a Clients) -> BoxFuture<'a, ()>;

    fn invoke<'a>(
        &'a self,
        caller: &'a Caller,
        call: Invocation,
    ) -> BoxFuture<'a, Result<Answer, HubError>>;
}

impl<H: Hub> AnyHub for H {
    fn connected<'a>(&'a self, caller: &'a Caller) -> BoxFuture<'a, Result<(), HubError>> {
        Box::pin(Hub::connected(self, caller))
    }

    fn disconnected<'a>(&'a self, caller: &'a Caller, error: Option<&'a str>) -> BoxFuture<'a, ()> {
        Box::pin(Hub::disconnected(self, caller, error))
    }

    fn stopping<'a>(&'a self, clients: &'a Clients) -> BoxFuture<'a, ()> {
        Box::pin(Hub::stopping(self, clients))
    }

    fn invoke<'a>(
        &'a self,
        caller: &'a Caller,
        call: Invocation,
    ) -> BoxFuture<'a, Result<Answer, HubError>> {
        Box::pin(Hub::invoke(self, caller, call))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind<T: FromArguments>(arguments: Vec<Value>) -> Result<T, HubError> {
        Invocation::new("Method".into(), arguments, VecDeque::new()).bind()
    }

    #[test]
    fn arguments_are_taken_by_their_types() {
        let arguments = vec![
            "a".into(),
            7.into(),
            Value::Array(vec!["x".into()]),
            Value::Nil,
        ];
        let bound: (String, i64, Vec<String>, Option<String>) = bind(arguments).unwrap();
        assert_eq!(bound, ("a".into(), 7, vec!["x".into()], None));
        assert_eq!(bind::<()>(vec![]), Ok(()));
    }

    #[test]
    fn bytes_may_come_as_base64_text() {
        let expected = (vec![1, 2, 3],);
        assert_eq!(
            bind::<(Vec<u8>,)>(vec!["AQID".into()]),
            Ok(expected.clone())
        );
        assert_eq!(
            bind::<(Vec<u8>,)>(vec![Value::Binary(vec![1, 2, 3])]),
            Ok(expected)
        );
    }

    #[test]
    fn wrong_arguments_are_an_error() {
        let error = bind::<(String,)>(vec![]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "InvalidDataException: Invocation provides 0 argument(s) but target expects 1."
        );
        assert!(matches!(
            bind::<(String,)>(vec![1.into()]),
            Err(HubError::Arguments(_))
        ));
        assert!(matches!(
            bind::<(u32,)>(vec![Value::from(-1)]),
            Err(HubError::Arguments(_))
        ));
        assert!(matches!(
            bind::<()>(vec![1.into()]),
            Err(HubError::Arguments(_))
        ));
    }
}
