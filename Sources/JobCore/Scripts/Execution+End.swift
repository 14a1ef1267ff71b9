import Subprocess

/// Waits until the process has ended, without reaping it.
///
/// The library offers a teardown but no wait. A teardown whose first step is signal 0, which the kernel never delivers, is one: it returns
/// when the process has ended. (Its last step would be SIGKILL, after the longest time one can sleep.)
func exit<Input, Output, Failure>(of execution: Execution<Input, Output, Failure>) async {
    await execution.teardown(using: [
        .send(signal: Signal(rawValue: 0), allowedDurationToNextStep: .longestSleep)
    ])
}
