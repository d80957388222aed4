//! What goes where.
//!
//! Bytes that have come are cut into records, and each record is passed on as slices of the blocks it lies in. Nothing is sent before all
//! that the kernel had to report is dealt with: so all that waits for a socket by then leaves in one send.

use std::convert::Infallible;
use std::io;
use std::os::fd::AsRawFd;

use crate::blocks::{BLOCK_BYTES, Blocks, Slice};
use crate::connection::{Connection, Sending, add_piece};
use crate::ring::{Event, HEADROOM_BYTES, Place, Ring, Side};
use crate::{ALL_CLIENTS, PADDING_BYTES_MAX};

const INDEX_BYTES: usize = size_of::<u32>();

/// Bytes of each kind of record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) client_frame: u32,
    pub(crate) server_record: u32,
    pub(crate) answer_record: u32,
    pub(crate) client_message: u32,
}

/// See the module.
pub(crate) struct Relay {
    ring: Ring,
    sizes: Sizes,
    clients: Vec<Connection>,
    servers: Vec<Connection>,
    /// Clients that are not over.
    clients_left: usize,
    /// Indexes of the server connections that are open.
    open_servers: Vec<u32>,
    /// Connections whose queue is to be sent.
    due: Vec<Place>,
    /// Connections that had no buffer to receive into.
    starved: Vec<Place>,
    /// Messages for all clients that have not been put into their queues. Each slice is a use of its block.
    for_all: Vec<Slice>,
    scratch: Scratch,
}

/// A block that small things are written into, one behind the other. It is a use of its block.
struct Scratch {
    block: u32,
    end: u32,
}

impl Sizes {
    pub(crate) fn are_valid(self) -> bool {
        let grows_too_far = |from: u32, to: u32| to.saturating_sub(from) > PADDING_BYTES_MAX;
        let smallest = [self.client_frame, self.client_message];
        let smallest_at_servers = [self.server_record, self.answer_record];
        smallest.iter().all(|bytes| *bytes > 0)
            && smallest_at_servers
                .iter()
                .all(|bytes| *bytes as usize >= INDEX_BYTES)
            && !grows_too_far(self.client_frame, self.server_record)
            && !grows_too_far(self.answer_record, self.client_message)
    }
}

impl Relay {
    pub(crate) fn new(mut ring: Ring, sizes: Sizes) -> Self {
        let scratch = Scratch {
            block: ring.blocks.take(),
            end: 0,
        };
        Self {
            ring,
            sizes,
            clients: Vec::new(),
            servers: Vec::new(),
            clients_left: 0,
            open_servers: Vec::new(),
            due: Vec::new(),
            starved: Vec::new(),
            for_all: Vec::new(),
            scratch,
        }
    }

    /// Relays for as long as the ring works.
    pub(crate) fn run(
        mut self,
        clients: &impl AsRawFd,
        servers: &impl AsRawFd,
    ) -> io::Result<Infallible> {
        self.ring.accept(clients, Side::Clients)?;
        self.ring.accept(servers, Side::Servers)?;
        let mut events = Vec::new();
        let mut record = Vec::new();
        loop {
            self.ring.turn(&mut events)?;
            for event in events.drain(..) {
                match event {
                    Event::Accepted {
                        side,
                        file,
                        goes_on,
                    } => {
                        self.on_accepted(side, file)?;
                        if !goes_on {
                            match side {
                                Side::Clients => self.ring.accept(clients, side)?,
                                Side::Servers => self.ring.accept(servers, side)?,
                            }
                        }
                    }
                    Event::Received {
                        place,
                        slice,
                        goes_on,
                    } => {
                        self.on_received(place, slice, &mut record);
                        if !goes_on {
                            self.receive(place)?;
                        }
                    }
                    Event::NoBuffer { place } => self.starved.push(place),
                    Event::ReceiveEnded { place } => self.on_receive_ended(place)?,
                    Event::Sent { place, bytes } => self.on_sent(place, bytes)?,
                }
            }
            for place in std::mem::take(&mut self.starved) {
                self.receive(place)?;
            }
            self.pass_to_all();
            self.send_due()?;
        }
    }

    fn on_accepted(&mut self, side: Side, file: io::Result<u32>) -> io::Result<()> {
        let file = match file {
            Ok(file) => file,
            // It has gone again already, or the table of files is full and the kernel has closed it.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ECONNABORTED | libc::ENFILE)
                ) =>
            {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let connections = match side {
            Side::Clients => &mut self.clients,
            Side::Servers => &mut self.servers,
        };
        let index = connections.len() as u32;
        connections.push(Connection::new(file));
        match side {
            Side::Clients => self.clients_left += 1,
            Side::Servers => self.open_servers.push(index),
        }
        self.ring.receive(file, Place { side, index })
    }

    /// Cuts what has come into records. `record` is empty space to put them together in.
    fn on_received(&mut self, place: Place, received: Slice, record: &mut Vec<Slice>) {
        let record_bytes = match place.side {
            Side::Clients => self.sizes.client_frame,
            Side::Servers => self.sizes.answer_record,
        };
        if let Some(connection) = self.connection(place) {
            connection.take_partial(record);
        }
        let mut missing = record_bytes - record.iter().map(|piece| piece.len()).sum::<u32>();
        let mut rest = received;
        while !rest.is_empty() {
            let piece = rest.split_to(missing);
            missing -= piece.len();
            add_piece(record, piece, &mut self.ring.blocks);
            if missing == 0 {
                match place.side {
                    Side::Clients => self.pass_to_server(place.index, record),
                    Side::Servers => self.pass_to_clients(record),
                }
                for piece in record.drain(..) {
                    self.ring.blocks.release(piece.block);
                }
                missing = record_bytes;
            }
        }
        if let Some(connection) = self.connection(place) {
            connection.keep_partial(record);
        }
        self.ring.blocks.release(received.block);
    }

    fn pass_to_server(&mut self, client: u32, record: &[Slice]) {
        let count = self.open_servers.len().max(1);
        let Some(&index) = self.open_servers.get(client as usize % count) else {
            return;
        };
        let place = Place {
            side: Side::Servers,
            index,
        };
        let body_bytes =
            (self.sizes.server_record - INDEX_BYTES as u32).min(self.sizes.client_frame);
        let prefix_bytes = self.sizes.server_record - body_bytes;
        let index = client.to_le_bytes();
        // The first record in a block has room in front of it, so that all of it is one slice.
        if let [whole] = *record
            && whole.start == HEADROOM_BYTES
            && whole.end - body_bytes >= prefix_bytes
        {
            let start = whole.end - self.sizes.server_record;
            let slice = Slice { start, ..whole };
            write_index(&mut self.ring.blocks, slice, index);
            self.push(place, slice);
            return;
        }
        let prefix = self.scratch.room(prefix_bytes, &mut self.ring.blocks);
        write_index(&mut self.ring.blocks, prefix, index);
        self.push(place, prefix);
        for slice in last_bytes(record, body_bytes) {
            self.push(place, slice);
        }
    }

    fn pass_to_clients(&mut self, record: &[Slice]) {
        let body_bytes = self.sizes.client_message.min(self.sizes.answer_record);
        let prefix_bytes = self.sizes.client_message - body_bytes;
        let index = read_index(&self.ring.blocks, record);
        if index == ALL_CLIENTS {
            self.keep_for_all(prefix_bytes, last_bytes(record, body_bytes));
            return;
        }
        // What came for all before has to arrive before.
        self.pass_to_all();
        let place = Place {
            side: Side::Clients,
            index,
        };
        if prefix_bytes > 0 {
            let prefix = self.scratch.room(prefix_bytes, &mut self.ring.blocks);
            self.push(place, prefix);
        }
        for slice in last_bytes(record, body_bytes) {
            self.push(place, slice);
        }
    }

    /// A message for all is copied once, behind the one before it: so however many come together are one slice for each client.
    fn keep_for_all(&mut self, prefix_bytes: u32, body: impl Iterator<Item = Slice> + Clone) {
        let blocks = &mut self.ring.blocks;
        let bytes = self.sizes.client_message;
        let mut keep = |slice: Slice, blocks: &mut Blocks| {
            if !self
                .for_all
                .last_mut()
                .is_some_and(|last| last.joins(slice))
            {
                blocks.hold(slice.block, 1);
                self.for_all.push(slice);
            }
        };
        if bytes <= BLOCK_BYTES {
            let copy = self.scratch.room(bytes, blocks);
            let mut room = copy;
            room.split_to(prefix_bytes);
            for slice in body {
                blocks.copy(slice, room.split_to(slice.len()));
            }
            keep(copy, blocks);
            return;
        }
        if prefix_bytes > 0 {
            let prefix = self.scratch.room(prefix_bytes, blocks);
            keep(prefix, blocks);
        }
        for slice in body {
            keep(slice, blocks);
        }
    }

    fn pass_to_all(&mut self) {
        if self.for_all.is_empty() {
            return;
        }
        for (index, client) in self.clients.iter_mut().enumerate() {
            for slice in &self.for_all {
                if client.push(*slice, &mut self.ring.blocks) {
                    self.due.push(Place {
                        side: Side::Clients,
                        index: index as u32,
                    });
                }
            }
        }
        for slice in self.for_all.drain(..) {
            self.ring.blocks.release(slice.block);
        }
    }

    fn push(&mut self, place: Place, slice: Slice) {
        let connections = match place.side {
            Side::Clients => &mut self.clients,
            Side::Servers => &mut self.servers,
        };
        if let Some(connection) = connections.get_mut(place.index as usize)
            && connection.push(slice, &mut self.ring.blocks)
        {
            self.due.push(place);
        }
    }

    fn send_due(&mut self) -> io::Result<()> {
        for place in self.due.drain(..) {
            let connections = match place.side {
                Side::Clients => &mut self.clients,
                Side::Servers => &mut self.servers,
            };
            if let Some(connection) = connections.get_mut(place.index as usize)
                && let Some(file) = connection.file
            {
                connection.sending = Sending::UnderWay;
                self.ring.send(file, place, connection.queue())?;
            }
        }
        Ok(())
    }

    fn receive(&mut self, place: Place) -> io::Result<()> {
        match self
            .connection(place)
            .and_then(|connection| connection.file)
        {
            Some(file) => self.ring.receive(file, place),
            None => Ok(()),
        }
    }

    fn on_receive_ended(&mut self, place: Place) -> io::Result<()> {
        if place.side == Side::Servers {
            self.open_servers.retain(|index| *index != place.index);
        }
        let Some((connection, blocks)) = self.connection_and_blocks(place) else {
            return Ok(());
        };
        connection.end_receiving(blocks);
        self.close_if_done(place)
    }

    fn on_sent(&mut self, place: Place, bytes: Option<u32>) -> io::Result<()> {
        let Some((connection, blocks)) = self.connection_and_blocks(place) else {
            return Ok(());
        };
        let is_due = bytes.is_some_and(|bytes| connection.advance(bytes, blocks));
        if bytes.is_none() {
            connection.fail(blocks);
        }
        if is_due {
            self.due.push(place);
            return Ok(());
        }
        self.close_if_done(place)
    }

    fn close_if_done(&mut self, place: Place) -> io::Result<()> {
        let Some(connection) = self.connection(place) else {
            return Ok(());
        };
        if !connection.is_done() {
            return Ok(());
        }
        let Some(file) = connection.file.take() else {
            return Ok(());
        };
        if place.side == Side::Clients {
            self.clients_left -= 1;
            if self.clients_left == 0 {
                self.clients.clear();
            }
        }
        self.ring.close(file)
    }

    fn connection(&mut self, place: Place) -> Option<&mut Connection> {
        Some(self.connection_and_blocks(place)?.0)
    }

    fn connection_and_blocks(&mut self, place: Place) -> Option<(&mut Connection, &mut Blocks)> {
        let connections = match place.side {
            Side::Clients => &mut self.clients,
            Side::Servers => &mut self.servers,
        };
        let connection = connections.get_mut(place.index as usize)?;
        Some((connection, &mut self.ring.blocks))
    }
}

impl Scratch {
    /// Room for so many bytes, at most a block's.
    fn room(&mut self, bytes: u32, blocks: &mut Blocks) -> Slice {
        if blocks.has_one_use(self.block) {
            // Only the scratch itself still uses it.
            self.end = 0;
        } else if self.end + bytes > BLOCK_BYTES {
            blocks.release(self.block);
            *self = Self {
                block: blocks.take(),
                end: 0,
            };
        }
        let start = self.end;
        self.end += bytes;
        Slice {
            block: self.block,
            start,
            end: self.end,
        }
    }
}

/// The last so many bytes of a record.
fn last_bytes(record: &[Slice], bytes: u32) -> impl Iterator<Item = Slice> + Clone {
    let all = record.iter().map(|piece| piece.len()).sum::<u32>();
    let mut before = all.saturating_sub(bytes);
    record.iter().filter_map(move |piece| {
        let mut piece = *piece;
        before -= piece.split_to(before).len();
        (!piece.is_empty()).then_some(piece)
    })
}

fn write_index(blocks: &mut Blocks, slice: Slice, index: [u8; INDEX_BYTES]) {
    if let Some(place) = blocks.bytes_mut(slice).first_chunk_mut() {
        *place = index;
    }
}

fn read_index(blocks: &Blocks, record: &[Slice]) -> u32 {
    let bytes = record.iter().flat_map(|piece| blocks.bytes(*piece));
    let mut index = [0; INDEX_BYTES];
    for (place, byte) in index.iter_mut().zip(bytes) {
        *place = *byte;
    }
    u32::from_le_bytes(index)
}
