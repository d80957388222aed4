//! Who is in a group: every member once, page after page, while others come and go.

use std::collections::BTreeMap;

use super::super::Question;
use super::messages::join;
use super::*;
use crate::limits::{MEMBERS_PER_PAGE, MEMBERS_PER_PAGE_MAX};
use crate::protocol::service::{AckStatus, GroupMemberQuery};

#[derive(Clone, Copy, Default)]
struct Wanted<'a> {
    top: Option<i32>,
    token: Option<&'a str>,
    page: Option<i32>,
}

struct Page {
    members: Vec<(String, Option<String>)>,
    token: Option<String>,
}

impl Page {
    fn ids(&self) -> Vec<&str> {
        self.members.iter().map(|(id, _)| id.as_str()).collect()
    }
}

/// A group `g` with so many members on three shards, every second of them a user's, and somebody who is in another group.
fn world_with_group(members: usize) -> (World, ServerEnd, Vec<ClientEnd>) {
    let mut world = World::new(3);
    let servers = [0, 1, 2].map(|shard| world.server(shard, CHAT, "app"));
    let users = [None, Some("ann")];
    let profile = |index: usize| Profile {
        user: users[index % 2],
        ..Profile::default()
    };
    let clients: Vec<ClientEnd> = (0..members)
        .map(|index| world.client_as(servers[index % 3], &profile(index)))
        .collect();
    for client in &clients {
        let id = world.id(*client);
        world.send(servers[0], join(id, "g"));
    }
    let other = world.client(servers[1]);
    let other = world.id(other);
    world.send(servers[0], join(other, "h"));
    world.settle();
    (world, servers[0], clients)
}

fn ask(world: &mut World, server: ServerEnd, group: &str, wanted: Wanted<'_>) -> (AckStatus, Page) {
    let query = GroupMemberQuery {
        group: group.into(),
        ack_id: 3,
        top: wanted.top,
        continuation_token: wanted.token.map(Into::into),
        max_page_size: wanted.page,
        tracing_id: Some(1),
    };
    world.send(server, query);
    world.settle();
    let answers = world.take(server);
    let [Message::Ack(answer)] = answers.as_slice() else {
        panic!("one answer, not {answers:?}");
    };
    assert_eq!(answer.ack_id, 3);
    (
        answer.status,
        read_page(answer.payload.expect("there is always a page")),
    )
}

/// Asks as the SDK does: with the token until there is none, and for as many fewer as have come.
fn ask_for_all(world: &mut World, server: ServerEnd, top: Option<i32>, page: i32) -> Vec<Page> {
    let mut pages: Vec<Page> = Vec::new();
    loop {
        let had: usize = pages.iter().map(|page| page.members.len()).sum();
        let wanted = Wanted {
            top: top.map(|top| top - i32::try_from(had).expect("they are few")),
            token: pages.last().and_then(|page| page.token.as_deref()),
            page: Some(page),
        };
        let (status, page) = ask(world, server, "g", wanted);
        assert_eq!(status, AckStatus::Ok);
        let is_last = page.token.is_none();
        pages.push(page);
        if is_last {
            return pages;
        }
    }
}

#[test]
fn every_member_is_named_once_with_its_user() {
    let (mut world, server, clients) = world_with_group(10);
    let expected: BTreeMap<String, Option<String>> = (0..)
        .zip(&clients)
        .map(|(index, client)| {
            (
                world.id(*client).to_owned(),
                (index % 2 == 1).then(|| "ann".into()),
            )
        })
        .collect();
    for (page_size, count) in [(1, 10), (3, 4), (10, 1), (11, 1)] {
        let pages = ask_for_all(&mut world, server, None, page_size);
        assert_eq!(pages.len(), count);
        let named: Vec<_> = pages.into_iter().flat_map(|page| page.members).collect();
        assert_eq!(named.len(), 10);
        assert_eq!(named.into_iter().collect::<BTreeMap<_, _>>(), expected);
    }
}

#[test]
fn no_more_are_named_than_asked_for() {
    let (mut world, server, _) = world_with_group(10);
    for (top, page, sizes) in [
        (4, 3, &[3, 1][..]),
        (6, 3, &[3, 3]),
        (3, 5, &[3]),
        (0, 5, &[0]),
        (-1, 5, &[0]),
        (11, 6, &[6, 4]),
    ] {
        let pages = ask_for_all(&mut world, server, Some(top), page);
        let named: Vec<usize> = pages.iter().map(|page| page.members.len()).collect();
        assert_eq!(named, sizes);
    }
}

#[test]
fn pages_are_as_large_as_the_service_lets_them_be() {
    let mut world = World::new(2);
    let server = world.server(0, CHAT, "app");
    let mut size_of = |max_page_size| {
        let query = GroupMemberQuery {
            group: "g".into(),
            max_page_size,
            ..GroupMemberQuery::default()
        };
        let effects = world.effects_of(server, &encoded(query));
        let [Effect::Post { mail, .. }] = effects.as_slice() else {
            panic!("the other shard is asked");
        };
        let Mail::Question { question, .. } = mail else {
            panic!("it is asked a question");
        };
        let Question::GroupMembers(query) = &**question else {
            panic!("it is asked for members");
        };
        query.members_max
    };
    assert_eq!(size_of(None), MEMBERS_PER_PAGE);
    assert_eq!(size_of(Some(i32::MAX)), MEMBERS_PER_PAGE_MAX);
    assert_eq!(size_of(Some(0)), 1);
    assert_eq!(size_of(Some(-5)), 1);
}

#[test]
fn who_comes_or_goes_between_two_pages_moves_nobody_else() {
    let (mut world, server, mut clients) = world_with_group(9);
    clients.sort_by_key(|client| world.clients[client.0].id);
    let ids: Vec<&str> = clients.iter().map(|client| world.id(*client)).collect();
    let wanted = Wanted {
        page: Some(4),
        ..Wanted::default()
    };
    let (_, first) = ask(&mut world, server, "g", wanted);
    assert_eq!(first.ids(), ids[..4]);
    // Of those named, the very last has left; of those to come, one.
    world.leave(clients[3]);
    world.leave(clients[5]);
    let newcomer = world.client(server);
    let newcomer_id = world.id(newcomer);
    world.send(server, join(newcomer_id, "g"));
    world.settle();
    let wanted = Wanted {
        token: first.token.as_deref(),
        ..Wanted::default()
    };
    let (_, second) = ask(&mut world, server, "g", wanted);
    let named = second.ids();
    let others: Vec<&str> = named
        .iter()
        .copied()
        .filter(|id| *id != newcomer_id)
        .collect();
    assert_eq!(others, [ids[4], ids[6], ids[7], ids[8]]);
    let follows = world.clients[newcomer.0].id > world.clients[clients[3].0].id;
    assert_eq!(
        named.contains(&newcomer_id),
        follows,
        "it is where its id belongs"
    );
}

#[test]
fn an_unknown_group_has_no_members() {
    let (mut world, server, _) = world_with_group(1);
    let (status, page) = ask(&mut world, server, "unknown", Wanted::default());
    assert_eq!(
        (status, page.members, page.token),
        (AckStatus::Ok, vec![], None)
    );
}

#[test]
fn a_token_that_we_cannot_have_given_is_an_error() {
    let (mut world, server, clients) = world_with_group(2);
    let answer = |world: &mut World, token| {
        let wanted = Wanted {
            token: Some(token),
            ..Wanted::default()
        };
        let (status, page) = ask(world, server, "g", wanted);
        (status, page.members.len())
    };
    for token in ["?", "tok2", "012345678901234567890123"] {
        assert_eq!(
            answer(&mut world, token),
            (AckStatus::InternalServerError, 0)
        );
    }
    assert_eq!(
        answer(&mut world, ""),
        (AckStatus::Ok, 2),
        "an empty one is none"
    );
    let mut ids: Vec<&str> = clients.iter().map(|client| world.id(*client)).collect();
    ids.sort_by_key(|id| ConnectionId::parse(id));
    assert_eq!(
        answer(&mut world, ids[1]),
        (AckStatus::Ok, 0),
        "nobody comes behind the last"
    );
}

/// As the app server reads it.
fn read_page(mut payload: &[u8]) -> Page {
    let rest = &mut payload;
    assert_eq!(take_byte(rest), 0x92);
    let count = match take_byte(rest) {
        0xdc => usize::from(take_byte(rest)) << 8 | usize::from(take_byte(rest)),
        short => usize::from(short & 0x0f),
    };
    let member = |rest: &mut &[u8]| {
        assert_eq!(take_byte(rest), 0x92);
        (take_text(rest).expect("an id"), take_text(rest))
    };
    let members = (0..count).map(|_| member(rest)).collect();
    let token = take_text(rest);
    assert!(rest.is_empty());
    Page { members, token }
}

fn take_byte(rest: &mut &[u8]) -> u8 {
    let (first, behind) = rest.split_first().expect("there is more");
    *rest = behind;
    *first
}

fn take_text(rest: &mut &[u8]) -> Option<String> {
    match take_byte(rest) {
        0xc0 => None,
        marker => {
            assert_eq!(marker & 0xe0, 0xa0, "these are all short");
            let (text, behind) = rest.split_at(usize::from(marker & 0x1f));
            *rest = behind;
            Some(String::from_utf8_lossy(text).into_owned())
        }
    }
}
