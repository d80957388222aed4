//! The calls of one client: those that run, those that wait for their turn, and the streams in both directions.
//!
//! All of it runs within the client's own task. A call starts in the order of the messages; as soon as it has to wait for
//! something, the next may start. Bounds: [`RUNNING_MAX`] calls run, [`WAITING_MAX`] wait, [`STREAMS_MAX`] streams are open in each direction.
//! While the bound on waiting calls is reached, or a stream is full, [`Calls::has_room`] is false and nothing more is read from the client.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, FuturesUnordered};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tracing::debug;

use super::byte_queue::{Closed, Sender, byte_queue};
use super::caller::Caller;
use super::client_connection::panicked;
use super::hub::{Answer, HubError, Invocation, Items, StreamPart};
use super::inbound::into_result;
use super::routes::Routes;
use crate::protocol::hub::message::{HubMessage, Outcome, Value};
use crate::protocol::service::ClientCompletion;

type Message<'a> = crate::protocol::service::Message<'a, &'a [u8]>;

/// Calls of one client that run at a time. A call that has answered with a stream counts no more.
pub(super) const RUNNING_MAX: usize = 8;

/// Calls of one client that wait for their turn.
pub(super) const WAITING_MAX: usize = 64;

/// Streams of one client in each direction.
pub(super) const STREAMS_MAX: usize = 128;

/// Bytes of a stream's items that may wait for the method.
const STREAM_BYTES_MAX: u32 = 256 << 10;

/// See the module's documentation.
pub(super) struct Calls {
    caller: Caller,
    turns: Arc<Semaphore>,
    waiting: VecDeque<Call>,
    /// Each ends with the id of its stream, if it may have opened one.
    running: FuturesUnordered<BoxFuture<'static, Option<String>>>,
    /// Streams that the client feeds.
    inlets: HashMap<String, Sender<StreamPart>>,
    /// Streams that the client gets: dropping the sender cancels.
    outlets: HashMap<String, oneshot::Sender<()>>,
    /// An item that waits for room in its stream.
    delivery: Option<BoxFuture<'static, Result<(), Closed>>>,
}

/// A call on its way.
struct Call {
    invocation: Invocation,
    reply: Reply,
}

/// What the client expects of a call.
enum Reply {
    Nothing,
    Result(String),
    /// The second half tells when the client wants no more.
    Stream(String, oneshot::Receiver<()>),
}

impl Calls {
    pub(super) fn new(caller: Caller) -> Self {
        Self {
            caller,
            turns: Arc::new(Semaphore::new(RUNNING_MAX)),
            waiting: VecDeque::new(),
            running: FuturesUnordered::new(),
            inlets: HashMap::new(),
            outlets: HashMap::new(),
            delivery: None,
        }
    }

    /// Whether another message can be taken in.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX && self.delivery.is_none()
    }

    /// Takes a message in.
    pub(super) async fn on_message(&mut self, message: HubMessage) {
        match message {
            HubMessage::Invocation {
                invocation_id,
                target,
                arguments,
                stream_ids,
                ..
            } => {
                let reply = invocation_id.map_or(Reply::Nothing, Reply::Result);
                self.on_call(target, arguments, &stream_ids, reply).await;
            }
            HubMessage::StreamInvocation {
                invocation_id,
                target,
                arguments,
                stream_ids,
                ..
            } => match self.open_outlet(&invocation_id) {
                Ok(cancelled) => {
                    let reply = Reply::Stream(invocation_id, cancelled);
                    self.on_call(target, arguments, &stream_ids, reply).await;
                }
                Err(text) => complete(&self.caller, invocation_id, Outcome::Error(text)).await,
            },
            HubMessage::StreamItem {
                invocation_id,
                item,
                ..
            } => self.on_item(&invocation_id, item),
            HubMessage::Completion {
                invocation_id,
                outcome,
                ..
            } => self.on_completion(invocation_id, outcome).await,
            HubMessage::CancelInvocation { invocation_id, .. } => {
                drop(self.outlets.remove(&invocation_id));
            }
            // The connection itself looks after the first two; the others belong to stateful reconnect, which the service does.
            HubMessage::Ping
            | HubMessage::Close { .. }
            | HubMessage::Ack { .. }
            | HubMessage::Sequence { .. } => {}
        }
    }

    /// Lets whatever can go on go on. Ends when something has happened; safe to drop before.
    pub(super) async fn progress(&mut self) {
        let turns = Arc::clone(&self.turns);
        let is_waiting = !self.waiting.is_empty();
        let delivery = async {
            match &mut self.delivery {
                Some(delivery) => delivery.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(stream_id) = self.running.next() => {
                if let Some(stream_id) = stream_id {
                    self.outlets.remove(&stream_id);
                }
            }
            Ok(turn) = turns.acquire_owned(), if is_waiting => {
                if let Some(call) = self.waiting.pop_front() {
                    self.start(call, turn);
                }
            }
            // A stream whose method is gone takes nothing in; that is no fault of the client.
            _ = delivery => self.delivery = None,
        }
    }

    /// Lets everything go on that can without waiting.
    pub(super) fn progress_now(&mut self) {
        // What it may do at a stretch is bounded by the calls there can be, and by the queue that streams fill.
        while tokio::task::unconstrained(self.progress())
            .now_or_never()
            .is_some()
        {}
    }

    /// After the end: lets calls end. Those that wait still run if `works_off` says so.
    pub(super) async fn finish(&mut self, works_off: bool) {
        if !works_off {
            self.waiting.clear();
        }
        self.inlets.clear();
        self.outlets.clear();
        self.delivery = None;
        while !self.waiting.is_empty() || !self.running.is_empty() {
            self.progress().await;
        }
    }

    async fn on_call(
        &mut self,
        target: String,
        arguments: Vec<Value>,
        stream_ids: &[String],
        reply: Reply,
    ) {
        let streams = match self.open_inlets(stream_ids) {
            Ok(streams) => streams,
            Err(error) => {
                let text = error_text(&target, &error, &self.caller);
                if let Some(stream_id) = fail(&self.caller, reply, text).await {
                    self.outlets.remove(&stream_id);
                }
                return;
            }
        };
        let invocation = Invocation::new(target, arguments, streams);
        let call = Call { invocation, reply };
        // Those that wait go first.
        match Arc::clone(&self.turns).try_acquire_owned() {
            Ok(turn) if self.waiting.is_empty() => self.start(call, turn),
            Ok(_) | Err(_) => self.waiting.push_back(call),
        }
    }

    fn start(&mut self, call: Call, turn: OwnedSemaphorePermit) {
        self.running
            .push(Box::pin(run(self.caller.clone(), call, turn)));
    }

    fn open_outlet(&mut self, invocation_id: &str) -> Result<oneshot::Receiver<()>, String> {
        if self.outlets.contains_key(invocation_id) {
            return Err(format!(
                "Invocation ID '{invocation_id}' is already in use."
            ));
        }
        if self.outlets.len() >= STREAMS_MAX {
            return Err(format!("More than {STREAMS_MAX} streams are open."));
        }
        let (cancel, cancelled) = oneshot::channel();
        self.outlets.insert(invocation_id.to_owned(), cancel);
        Ok(cancelled)
    }

    fn open_inlets(&mut self, stream_ids: &[String]) -> Result<VecDeque<Items>, HubError> {
        if self.inlets.len() + stream_ids.len() > STREAMS_MAX {
            // Streams whose methods are gone do not count.
            self.inlets.retain(|_, inlet| !inlet.is_closed());
        }
        if self.inlets.len() + stream_ids.len() > STREAMS_MAX {
            let text = format!("More than {STREAMS_MAX} streams are open.");
            return Err(HubError::Arguments(text));
        }
        let open = |id: &String| {
            let (inlet, receiver) = byte_queue(STREAM_BYTES_MAX);
            self.inlets.insert(id.clone(), inlet);
            Items {
                receiver,
                is_over: false,
            }
        };
        Ok(stream_ids.iter().map(open).collect())
    }

    fn on_item(&mut self, stream_id: &str, item: Value) {
        let Some(inlet) = self.inlets.get(stream_id) else {
            return;
        };
        let inlet = inlet.clone();
        let bytes = size(&item);
        let mut delivery = async move { inlet.send(StreamPart::Item(item), bytes).await }.boxed();
        if (&mut delivery).now_or_never().is_none() {
            self.delivery = Some(delivery);
        }
    }

    /// The end of a stream that the client feeds, or its answer to a question.
    async fn on_completion(&mut self, invocation_id: String, outcome: Outcome) {
        if let Some(inlet) = self.inlets.remove(&invocation_id) {
            let error = into_result(outcome).err();
            // An error means that the method did not wait for the end.
            let _ = inlet.send_now(StreamPart::End(error));
            return;
        }
        let Caller { client, hub } = &self.caller;
        let results = &hub.process.results;
        let own = client.way.server_connection();
        let (answer, routes) = if results.take_route(&invocation_id, &client.id) {
            // Another app server has asked.
            let answer = client.protocol.encode(&HubMessage::Completion {
                headers: Vec::new(),
                invocation_id: invocation_id.clone(),
                outcome,
            });
            (answer, Routes::new([own]))
        } else if results.complete(&invocation_id, &client.id, into_result(outcome)) {
            // Without a payload it only tells those who were asked that the matter is settled.
            (Vec::new(), hub.routes(Some(&own), &client.id))
        } else {
            debug!(hub = %hub.name, connection = client.id, "ignored a result that nobody waits for");
            return;
        };
        let completion = ClientCompletion {
            invocation_id: invocation_id.into(),
            connection_id: client.id.as_str().into(),
            caller_server_id: hub.process.server_id.as_str().into(),
            protocol: Some(client.protocol.name().into()),
            payload: answer.as_slice(),
            tracing_id: None,
        };
        let Ok(routes) = routes else {
            return;
        };
        // Where the server connection is lost, the client is too.
        let _ = routes.send(&Message::from(completion)).await;
    }
}

/// One call from its start to its end. The turn is given back as soon as the method has answered.
async fn run(caller: Caller, call: Call, turn: OwnedSemaphorePermit) -> Option<String> {
    let Call { invocation, reply } = call;
    let target = invocation.target().to_owned();
    let answer = AssertUnwindSafe(caller.hub.hub.invoke(&caller, invocation))
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err(panicked()));
    drop(turn);
    match (answer, reply) {
        (Err(error), reply) => {
            let text = error_text(&target, &error, &caller);
            debug!(hub = %caller.hub.name, target, %error, "a call failed");
            fail(&caller, reply, text).await
        }
        (Ok(Answer::Stream(items)), Reply::Stream(id, cancelled)) => {
            let outcome = send_items(&caller, &id, items, cancelled).await;
            complete(&caller, id.clone(), outcome).await;
            Some(id)
        }
        (Ok(Answer::Stream(_)), reply) => {
            let text = format!(
                "The client attempted to invoke the streaming '{target}' method with a non-streaming invocation."
            );
            fail(&caller, reply, text).await
        }
        (Ok(Answer::Nothing | Answer::Value(_)), reply @ Reply::Stream(..)) => {
            let text = format!(
                "The client attempted to invoke the non-streaming '{target}' method with a streaming invocation."
            );
            fail(&caller, reply, text).await
        }
        (Ok(_), Reply::Nothing) => None,
        (Ok(Answer::Nothing), Reply::Result(id)) => {
            complete(&caller, id, Outcome::Result(Value::Nil)).await;
            None
        }
        (Ok(Answer::Value(value)), Reply::Result(id)) => {
            complete(&caller, id, Outcome::Result(value)).await;
            None
        }
    }
}

/// Sends items until the stream ends, the client has had enough, or the client is gone.
async fn send_items(
    caller: &Caller,
    id: &str,
    mut items: BoxStream<'static, Result<Value, HubError>>,
    mut cancelled: oneshot::Receiver<()>,
) -> Outcome {
    loop {
        let item = tokio::select! {
            biased;
            _ = &mut cancelled => return Outcome::Void,
            () = caller.aborted() => return Outcome::Void,
            item = AssertUnwindSafe(items.next()).catch_unwind() => item.unwrap_or_else(|_| Some(Err(panicked()))),
        };
        match item {
            Some(Ok(item)) => {
                let message = HubMessage::StreamItem {
                    headers: Vec::new(),
                    invocation_id: id.to_owned(),
                    item,
                };
                if caller.client.send(&message).await.is_err() {
                    return Outcome::Void;
                }
            }
            Some(Err(error)) => {
                let base = "An error occurred on the server while streaming results.";
                return Outcome::Error(with_detail(base, &error, caller));
            }
            None => return Outcome::Void,
        }
    }
}

/// Answers with an error, where an answer is expected. Gives the id of the stream that there will not be.
async fn fail(caller: &Caller, reply: Reply, text: String) -> Option<String> {
    match reply {
        Reply::Nothing => None,
        Reply::Result(id) => {
            complete(caller, id, Outcome::Error(text)).await;
            None
        }
        Reply::Stream(id, _) => {
            complete(caller, id.clone(), Outcome::Error(text)).await;
            Some(id)
        }
    }
}

async fn complete(caller: &Caller, invocation_id: String, outcome: Outcome) {
    let message = HubMessage::Completion {
        headers: Vec::new(),
        invocation_id,
        outcome,
    };
    // Where the server connection is lost, the client is too.
    let _ = caller.client.send(&message).await;
}

/// What the client is told of an error, in the words of ASP.NET Core.
fn error_text(target: &str, error: &HubError, caller: &Caller) -> String {
    match error {
        HubError::UnknownMethod => format!(
            "Failed to invoke '{target}' due to an error on the server. HubException: Method does not exist."
        ),
        HubError::Arguments(_) => {
            let base = format!("Failed to invoke '{target}' due to an error on the server.");
            with_detail(&base, error, caller)
        }
        HubError::Message(_) | HubError::Internal(_) => {
            let base = format!("An unexpected error occurred invoking '{target}' on the server.");
            with_detail(&base, error, caller)
        }
    }
}

fn with_detail(base: &str, error: &HubError, caller: &Caller) -> String {
    if error.is_public() || caller.hub.process.options.detailed_errors {
        format!("{base} {error}")
    } else {
        base.to_owned()
    }
}

/// About how much memory a value takes. Its depth is bounded by whoever read it.
fn size(value: &Value) -> usize {
    let own = size_of::<Value>();
    match value {
        Value::Nil | Value::Boolean(_) | Value::Integer(_) | Value::F32(_) | Value::F64(_) => own,
        Value::String(text) => own + text.as_bytes().len(),
        Value::Binary(bytes) | Value::Ext(_, bytes) => own + bytes.len(),
        Value::Array(values) => own + values.iter().map(size).sum::<usize>(),
        Value::Map(pairs) => {
            own + pairs
                .iter()
                .map(|(name, value)| size(name) + size(value))
                .sum::<usize>()
        }
    }
}
