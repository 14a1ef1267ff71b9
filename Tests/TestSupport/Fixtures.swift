import EventLoop
public import Glibc
public import JobCore
import SystemPackage
import TestMain

extension RunningAttempt {
    /// An attempt of job 17, which no registry contains.
    public static func alone(
        _ number: Int = 1, scripts: ScriptRunner = ScriptRunner(), notice: @escaping NoticeHandler = { _ in }
    ) -> RunningAttempt {
        let clock = SystemWallClock()
        let job = Job(
            id: JobID(17), type: .provisioning, name: "test", subject: JobSubject("test"), client: "test",
            created: clock.now)
        var executor = JobExecutor(registry: JobRegistry(clock: clock), clock: clock, notice: notice)
        executor.runner = scripts
        return RunningAttempt(job, number: number, token: JobToken(), executor)
    }
}

/// The same numbers in every run (SplitMix64), so that a failure can be repeated.
public struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    /// Another seed, other numbers.
    public init(seed: UInt64) { state = seed }

    /// The next number.
    public mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}

/// Gives a script that was just written its mode, and waits until no process has it open for writing.
///
/// A process that another test forks just then inherits the descriptor that the script was written by, and until it takes on its own program the
/// script cannot be run (ETXTBSY).
public func makeExecutable(_ file: String, mode: mode_t = 0o755) throws {
    guard chmod(file, mode) == 0 else { throw Errno(rawValue: errno) }
    let descriptor = open(file, O_RDONLY | O_CLOEXEC)
    // One that may not be read cannot be looked at so.
    guard descriptor >= 0 else { return }
    defer { close(descriptor) }
    // A read lease is only given if no process has the file open for writing (fcntl(2), F_SETLEASE).
    let setLease: Int32 = 1_024
    for _ in 0..<10_000 where fcntl(descriptor, setLease, F_RDLCK) != 0 {
        guard errno == EAGAIN else { return }
        usleep(500)
    }
    _ = fcntl(descriptor, setLease, F_UNLCK)
}

/// Tests run on Swift's own pool; what is isolated to the main actor runs on the event loop, as in the program.
@_cdecl("prov_install_event_loop")
public func installEventLoop() { EventLoop.installForMainActor() }
