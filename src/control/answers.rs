//! Answers that come one after the other, and the limits of a panic: it costs the call in which it is.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::mpsc::{self, Receiver, Sender};
use tonic::codegen::tokio_stream::Stream;
use tonic::{Response, Status};

use crate::runtime::panic_text;

/// Whatever is sent, as a stream.
pub(super) struct Sent<T>(pub(super) Receiver<T>);

pub(super) type Answers<T> = Sent<Result<T, Status>>;

impl<T> Stream for Sent<T> {
    type Item = T;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.poll_recv(cx)
    }
}

/// A call's answers, made by a task of its own. None is made before the one before it was taken.
pub(super) fn answers<T, F>(make: impl FnOnce(Sender<Result<T, Status>>) -> F) -> Response<Answers<T>>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(make(sender));
    Response::new(Sent(receiver))
}

/// What a call answers; INTERNAL in the place of a panic.
pub(super) fn contained<T>(answer: impl FnOnce() -> Result<T, Status>) -> Result<Response<T>, Status> {
    match catch_unwind(AssertUnwindSafe(answer)) {
        Ok(answer) => answer.map(Response::new),
        Err(panic) => Err(Status::internal(format!("a bug in podkeep, please report it: {}", panic_text(&*panic)))),
    }
}
