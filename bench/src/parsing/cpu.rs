//! Processor time, which a loaded machine does not change.

use rustix::time::{ClockId, clock_gettime};

/// The seconds of this thread's processor time that `work` takes.
pub fn measure(work: impl FnOnce()) -> f64 {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    };
    let start = now();
    work();
    now() - start
}
