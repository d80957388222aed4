//! Connections whose request head is waited for. When too many are, those that have taken longest make room: somebody who opens
//! connections and says nothing on them would else keep everybody else out.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::net::Shutdown;
use std::rc::Rc;

use tokio_uring::net::TcpStream;

/// The connections, in the order in which they have come.
#[derive(Default)]
pub(super) struct Heads {
    waiting: RefCell<BTreeMap<u64, Rc<TcpStream>>>,
    come: Cell<u64>,
}

/// One that is waited for, until dropped.
pub(super) struct Waiting<'a> {
    heads: &'a Heads,
    number: u64,
}

impl Heads {
    pub(super) fn wait(&self, stream: &Rc<TcpStream>) -> Waiting<'_> {
        let number = self.come.get();
        self.come.set(number + 1);
        self.waiting.borrow_mut().insert(number, Rc::clone(stream));
        Waiting {
            heads: self,
            number,
        }
    }

    /// Ends so many, the ones that have been waited for longest. How many there were.
    pub(super) fn give_up(&self, most: usize) -> usize {
        let mut waiting = self.waiting.borrow_mut();
        let given_up = std::iter::from_fn(|| waiting.pop_first()).take(most);
        given_up
            .map(|(_, stream)| {
                // Whoever reads from it learns it, and lets go of it.
                let _ = stream.shutdown(Shutdown::Both);
            })
            .count()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.heads.waiting.borrow_mut().remove(&self.number);
    }
}

impl fmt::Debug for Heads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Heads({} waiting)", self.waiting.borrow().len())
    }
}
