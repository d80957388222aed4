//! Which server connection a new client is bound to.

use crate::id::ShardId;
use crate::protocol::access_token::Sticky;

/// A server connection that a client might be bound to.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The app server it belongs to.
    pub server_id: &'a str,
    /// The shard it is on.
    pub shard: ShardId,
    /// False for weak connections and for those that are shutting down.
    pub is_routable: bool,
    /// Clients that are bound to it.
    pub client_count: u32,
}

impl Candidate<'_> {
    /// Whether a client may be bound to it.
    pub fn suits(&self, sticky: &Sticky) -> bool {
        self.is_routable
            && match sticky {
                Sticky::Required(server_id) => **server_id == *self.server_id,
                Sticky::None | Sticky::Preferred(_) => true,
            }
    }
}

/// The index of the best candidate: the preferred app server first, then the fewest clients, then the preferred shard.
pub fn pick<'a>(
    candidates: impl Iterator<Item = Candidate<'a>>,
    sticky: &Sticky,
    prefer: Option<ShardId>,
) -> Option<usize> {
    let other_server = |candidate: &Candidate<'_>| matches!(sticky, Sticky::Preferred(server_id) if **server_id != *candidate.server_id);
    let other_shard =
        |candidate: &Candidate<'_>| prefer.is_some_and(|shard| shard != candidate.shard);
    candidates
        .enumerate()
        .filter(|(_, candidate)| candidate.suits(sticky))
        .min_by_key(|(_, candidate)| {
            (
                other_server(candidate),
                candidate.client_count,
                other_shard(candidate),
            )
        })
        .map(|(index, _)| index)
}

/// Server connections of one hub on one shard.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShardLoad {
    /// All of them.
    pub placed: u32,
    /// Those that take no clients.
    pub send_only: u32,
    /// Those of the app server from which one more comes.
    pub own: u32,
}

/// The shard on which one more server connection is needed most.
pub fn shard_for_server(loads: &[ShardLoad], here: ShardId) -> ShardId {
    let least = loads.iter().enumerate().min_by_key(|(shard, load)| {
        (
            load.placed.saturating_sub(load.send_only),
            load.own,
            load.placed,
            (shard + loads.len()).saturating_sub(here.index()) % loads.len(),
        )
    });
    least.map_or(here, |(shard, _)| ShardId(shard as u16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_app_server_comes_to_every_shard_for_which_it_has_a_connection() {
        for (shards, connections) in [(2, 2), (2, 5), (4, 5), (5, 5), (8, 5), (3, 7)] {
            let mut placed = vec![0; shards];
            for app_server in 0..3 {
                let mut own = vec![0; shards];
                for connection in 0..connections {
                    let loads: Vec<ShardLoad> = placed
                        .iter()
                        .zip(&own)
                        .map(|(&placed, &own)| ShardLoad {
                            placed,
                            send_only: 0,
                            own,
                        })
                        .collect();
                    let here = ShardId(((app_server * 7 + connection * 3) % shards) as u16);
                    let shard = shard_for_server(&loads, here).index();
                    placed[shard] += 1;
                    own[shard] += 1;
                }
                let covered = own.iter().filter(|count| **count > 0).count();
                assert_eq!(covered, connections.min(shards), "{own:?} of {placed:?}");
            }
            let (least, most) = (placed.iter().min(), placed.iter().max());
            assert!(most.unwrap() - least.unwrap() <= 1, "{placed:?}");
        }
    }

    fn candidate(server_id: &str, shard: u16, client_count: u32) -> Candidate<'_> {
        Candidate {
            server_id,
            shard: ShardId(shard),
            is_routable: true,
            client_count,
        }
    }

    fn pick_of(
        candidates: &[Candidate<'_>],
        sticky: &Sticky,
        prefer: Option<u16>,
    ) -> Option<usize> {
        pick(candidates.iter().copied(), sticky, prefer.map(ShardId))
    }

    #[test]
    fn the_one_with_the_fewest_clients_is_picked() {
        let candidates = [
            candidate("a", 0, 3),
            candidate("a", 1, 1),
            candidate("b", 0, 2),
        ];
        assert_eq!(pick_of(&candidates, &Sticky::None, None), Some(1));
    }

    #[test]
    fn among_equals_the_preferred_shard_wins() {
        let candidates = [
            candidate("a", 0, 1),
            candidate("a", 1, 1),
            candidate("b", 2, 2),
        ];
        assert_eq!(pick_of(&candidates, &Sticky::None, Some(1)), Some(1));
        assert_eq!(
            pick_of(&candidates, &Sticky::None, Some(2)),
            Some(0),
            "the count comes first"
        );
    }

    #[test]
    fn preferred_falls_back_and_required_does_not() {
        let candidates = [candidate("a", 0, 0), candidate("b", 1, 9)];
        assert_eq!(
            pick_of(&candidates, &Sticky::Preferred("b".into()), Some(0)),
            Some(1)
        );
        assert_eq!(
            pick_of(&candidates, &Sticky::Preferred("c".into()), None),
            Some(0)
        );
        assert_eq!(
            pick_of(&candidates, &Sticky::Required("b".into()), Some(0)),
            Some(1)
        );
        assert_eq!(
            pick_of(&candidates, &Sticky::Required("c".into()), None),
            None
        );
    }

    #[test]
    fn what_is_not_routable_is_never_picked() {
        let weak = Candidate {
            is_routable: false,
            ..candidate("a", 0, 0)
        };
        assert_eq!(pick_of(&[weak], &Sticky::None, None), None);
        assert_eq!(
            pick_of(
                &[weak, candidate("b", 0, 100)],
                &Sticky::Preferred("a".into()),
                None
            ),
            Some(1)
        );
    }
}
