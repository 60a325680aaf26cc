//! The first success among attempts that begin one after the other (RFC 8305, 5).

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::sleep;

/// Begins an attempt when all before it have failed, or when `stagger` has passed since the last one began. The first
/// success ends the others; without one, the last failure is returned. None if there was nothing to attempt.
pub(super) async fn first_of<T, E, F>(
    attempts: impl IntoIterator<Item = F>,
    stagger: Duration,
) -> Option<Result<T, E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut left = attempts.into_iter();
    let mut under_way = FuturesUnordered::new();
    let mut last = None;
    loop {
        let begun = left.next().map(|attempt| under_way.push(attempt));
        if begun.is_none() && under_way.is_empty() {
            return last;
        }
        tokio::select! {
            Some(ended) = under_way.next() => match ended {
                Ok(success) => return Some(Ok(success)),
                Err(failure) => last = Some(Err(failure)),
            },
            () = sleep(stagger), if begun.is_some() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const STAGGER: Duration = Duration::from_millis(300);

    async fn answer(after: u64, result: Result<u8, u8>) -> Result<u8, u8> {
        sleep(Duration::from_millis(after)).await;
        result
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_drops_packets_does_not_keep_the_next_from_answering() {
        let began = Instant::now();
        let attempts = [answer(10_000, Err(1)), answer(20, Ok(2))];
        assert_eq!(first_of(attempts, STAGGER).await, Some(Ok(2)));
        assert!(began.elapsed() < Duration::from_millis(400));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_lets_the_next_begin_at_once() {
        let began = Instant::now();
        let attempts = [answer(1, Err(1)), answer(1, Err(2)), answer(5, Ok(3))];
        assert_eq!(first_of(attempts, STAGGER).await, Some(Ok(3)));
        assert!(began.elapsed() < Duration::from_millis(50));
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_fail_the_last_failure_is_told() {
        let attempts = [answer(700, Err(1)), answer(1, Err(2))];
        assert_eq!(first_of(attempts, STAGGER).await, Some(Err(1)));
        let none: [std::future::Ready<Result<u8, u8>>; 0] = [];
        assert_eq!(first_of(none, STAGGER).await, None);
    }
}
