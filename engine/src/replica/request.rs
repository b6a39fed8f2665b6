//! A request at a replica, and the responder of its answer.

use crate::admission::Permit;
use crate::admission::ticket::Ticket;
use crate::config::LARGEST_BODY;
use crate::error::RequestError;
use crate::request::answers::Place;
use crate::request::encoding::encode_replies;
use crate::request::kind::Answer;
use crate::state_machine::CapturedState;
use crate::turn::Turn;
use bytes::Bytes;
use logboat_raft::{LogId, NodeId};
use logboat_transport::RequestId;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::oneshot;

/// A command, list of commands or query, with the responder of its answer.
pub struct Request {
    pub(crate) body: Bytes,
    pub(crate) responder: Responder,
}

impl Request {
    /// What is asked.
    #[cfg(feature = "internals")]
    #[must_use]
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// A request of a caller in this process, and the receiver of its answer.
    #[must_use]
    pub fn local(body: Bytes, permit: Permit) -> (Self, oneshot::Receiver<Answer>) {
        let (sender, receiver) = oneshot::channel();
        let responder = Responder::Local { sender, _permit: permit, ticket: None };
        (Self { body, responder }, receiver)
    }

    /// A request of a caller in this process that is made together with others.
    pub(crate) fn gathered(body: Bytes, place: Place, permit: Permit) -> Self {
        Self { body, responder: Responder::Gathered { place, _permit: permit, ticket: None } }
    }

    /// A request for the state itself, and the receiver of it. The caller may know the state after
    /// some entry already.
    pub(crate) fn capture(
        known: Option<LogId>,
        permit: Permit,
    ) -> (Self, oneshot::Receiver<Result<CapturedState, RequestError>>) {
        let (sender, receiver) = oneshot::channel();
        let responder = Responder::Capture(Box::new(Capture { sender, known, _permit: permit }));
        (Self { body: Bytes::new(), responder }, receiver)
    }

    /// A request of a caller on another node, which is answered by a reply to `id`.
    #[must_use]
    pub fn remote(body: Bytes, node: NodeId, id: RequestId, permit: Permit) -> Self {
        Self { body, responder: Responder::Remote { node, id, _permit: permit, ticket: None } }
    }
}

/// The responder: where an answer goes, and what the request holds until then.
pub(crate) enum Responder {
    /// A caller in this process.
    Local { sender: oneshot::Sender<Answer>, _permit: Permit, ticket: Option<Ticket> },
    /// A caller in this process that waits for other answers as well.
    Gathered { place: Place, _permit: Permit, ticket: Option<Ticket> },
    /// A caller on another node.
    Remote { node: NodeId, id: RequestId, _permit: Permit, ticket: Option<Ticket> },
    /// A batched reply, of which this command's answer has this number.
    Batched { reply: Arc<BatchReply>, number: usize, ticket: Option<Ticket> },
    /// A caller in this process that wants the state itself.
    Capture(Box<Capture>),
}

/// Where a captured state goes.
pub(crate) struct Capture {
    sender: oneshot::Sender<Result<CapturedState, RequestError>>,
    /// The caller has the state after this entry.
    known: Option<LogId>,
    _permit: Permit,
}

impl Capture {
    /// Whether the caller has the state after this entry.
    pub(crate) fn knows(&self, last: LogId) -> bool {
        self.known == Some(last)
    }

    /// Whether anybody still waits for it.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Hands over the state, or why there is none. A caller that waits no more is not an error.
    pub(crate) fn answer(self, captured: Result<CapturedState, RequestError>) {
        drop(self.sender.send(captured));
    }
}

impl Responder {
    /// Holds the ticket of the command until its answer is there.
    pub(crate) fn hold(&mut self, held: Option<Ticket>) {
        match self {
            Self::Local { ticket, .. }
            | Self::Gathered { ticket, .. }
            | Self::Remote { ticket, .. }
            | Self::Batched { ticket, .. } => *ticket = held,
            // It is no command, so it has no ticket.
            Self::Capture(_) => {}
        }
    }

    /// Hands over the answer. A caller that waits no more is not an error.
    pub(crate) fn answer(self, turn: &mut Turn, answer: Answer) {
        match self {
            Self::Local { sender, .. } => drop(sender.send(answer)),
            Self::Gathered { place, .. } => turn.callers.add(place.answer(answer)),
            Self::Remote { node, id, .. } => turn.reply(node, id, &fitting(answer)),
            Self::Batched { reply, number, .. } => reply.set(turn, number, answer),
            // It is answered by a state, so what comes here is a refusal.
            Self::Capture(capture) => {
                if let Err(error) = answer {
                    capture.answer(Err(error));
                }
            }
        }
    }
}

/// The answer, or, in place of one that no frame can carry, an error that says so. It would be
/// dropped on its way, and its caller would wait in vain.
pub(crate) fn fitting(answer: Answer) -> Answer {
    match answer {
        Ok(answer) if answer.len() > LARGEST_BODY => {
            Err(RequestError::AnswerTooLarge { bytes: answer.len(), limit: LARGEST_BODY })
        }
        answer => answer,
    }
}

/// A batched reply: the answers to commands that were proposed together. They become one answer
/// when all are there.
pub(crate) struct BatchReply(Mutex<BatchState>);

struct BatchState {
    answers: Vec<Answer>,
    missing: usize,
    responder: Option<Responder>,
}

impl BatchReply {
    /// Makes one answer for `responder` out of so many.
    pub(crate) fn new(commands: usize, responder: Responder) -> Arc<Self> {
        let answers = vec![Err(RequestError::TimedOut); commands];
        let state = BatchState { answers, missing: commands, responder: Some(responder) };
        Arc::new(Self(Mutex::new(state)))
    }

    fn set(&self, turn: &mut Turn, number: usize, answer: Answer) {
        let mut state = self.0.lock();
        state.answers[number] = answer;
        state.missing -= 1;
        if state.missing == 0
            && let Some(responder) = state.responder.take()
        {
            responder.answer(turn, one_answer(&state.answers));
        }
    }
}

/// One answer for all of these: the error that all have in common, or the list of them.
pub(crate) fn one_answer(answers: &[Answer]) -> Answer {
    match answers {
        [first @ Err(_), others @ ..] if others.iter().all(|other| other == first) => first.clone(),
        _ => Ok(encode_replies(answers).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_no_frame_can_carry_becomes_an_error() {
        let fits = Ok(Bytes::from(vec![0; LARGEST_BODY]));
        assert_eq!(fitting(fits.clone()), fits);
        let error = fitting(Ok(Bytes::from(vec![0; LARGEST_BODY + 1])));
        let (bytes, limit) = (LARGEST_BODY + 1, LARGEST_BODY);
        assert_eq!(error, Err(RequestError::AnswerTooLarge { bytes, limit }));
    }
}
