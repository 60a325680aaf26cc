//! A thread without which nothing can be kept: when it panics, the process ends. Everything is safe against a crash, and a gateway that goes on
//! without its journal is worse than one that is started again.

use std::process;
use std::thread;

/// Held by the thread as long as it runs.
#[derive(Debug)]
pub(super) struct Vital;

impl Drop for Vital {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!("the journal's writing thread panicked: the process ends");
            process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    use super::*;

    const PANIC: &str = "COMITY_TEST_VITAL_PANIC";

    #[test]
    fn a_panic_of_the_thread_ends_the_process() {
        if std::env::var_os(PANIC).is_some() {
            let thread = thread::spawn(|| {
                let _vital = Vital;
                panic!("for the test");
            });
            thread.join().ok();
            return;
        }
        let program = std::env::current_exe().expect("this program");
        let name = "journal::vital::tests::a_panic_of_the_thread_ends_the_process";
        let child = Command::new(program)
            .args([name, "--exact", "--test-threads=1"])
            .env(PANIC, "1")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("it can be run");
        assert_eq!(child.signal(), Some(6), "{child}");
    }
}
