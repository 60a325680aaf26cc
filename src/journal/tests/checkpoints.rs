//! The write-ahead log.

use super::*;

#[tokio::test]
async fn a_log_that_the_writing_thread_has_moved_begins_anew() {
    let fixture = Fixture::new();
    let (journal, _threads) = fixture.open();
    let length = async || {
        journal
            .in_store(|store| {
                let pragma = "PRAGMA wal_checkpoint(PASSIVE)";
                let length = |row: &rusqlite::Row<'_>| row.get::<_, i64>(1);
                let length = store.connection().query_row(pragma, [], length);
                length.expect("the log's length")
            })
            .await
    };
    journal.append(append((1..500).map(said).collect())).await;
    // A commit that no checkpoint has seen.
    journal.append(append(vec![said(501)])).await;
    journal.in_store(|store| store.finish_log()).await;
    journal.append(append(vec![said(502)])).await;
    assert!(length().await < 20, "the log goes on");
    journal.append(append((600..999).map(said).collect())).await;
    assert!(length().await >= 20, "there is a log");
}
