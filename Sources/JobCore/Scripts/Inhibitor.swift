import EventLoop
public import SystemPackage

/// Prevents sleep and shutdown of the machine while jobs run (specification: rows.md L3): one inhibitor of
/// systemd-logind for all jobs, taken when the first job begins and released when the last one has ended.
///
/// If systemd-inhibit is missing or logind does not answer, this is reported once, and jobs run without the
/// inhibitor. The next job that begins while none runs tries again.
@MainActor public final class Inhibitor {
    /// Its usual path.
    public nonisolated static let usualProgram: FilePath = "/usr/bin/systemd-inhibit"

    private let program: FilePath
    private let who: String
    private let timeout: Duration
    private let leavingTime: Duration
    private let notice: NoticeHandler

    private var holders = 0
    private var lock: InhibitorLock?
    /// Callers of ``hold(for:)`` that wait for the current lock.
    private var waiting: [CheckedContinuation<Void, Never>] = []
    private var isDecided = false
    /// Whether the current holders have not got an inhibitor. One that is lost later is taken again by the next job.
    private var isRefused = false
    private var hasGivenNotice = false

    /// - Parameters:
    ///   - program: systemd-inhibit.
    ///   - who: this program's name in `systemd-inhibit --list`.
    ///   - timeout: how long a job waits for logind's answer. A later answer takes effect when it comes.
    ///   - leavingTime: how long systemd-inhibit may take to end: after its release, and again after SIGTERM.
    ///   - notice: is called once if there is no inhibitor.
    public nonisolated init(
        program: FilePath = Inhibitor.usualProgram, who: String, timeout: Duration = .seconds(2),
        leavingTime: Duration = .seconds(1), notice: @escaping NoticeHandler
    ) {
        self.program = program
        self.who = who
        self.timeout = timeout
        self.leavingTime = leavingTime
        self.notice = notice
    }

    /// Prevents sleep and shutdown until the matching ``release()``. Returns when the inhibitor is held or
    /// unavailable, at the latest after the timeout.
    /// - Parameter reason: for `systemd-inhibit --list`, such as the job's name; the first holder's is shown.
    public func hold(for reason: String) async {
        holders += 1
        if holders == 1 { isRefused = false }
        if lock == nil, !isRefused { take(reason) }
        if !isDecided { await withCheckedContinuation { waiting.append($0) } }
    }

    /// Ends one ``hold(for:)``. The last call releases the inhibitor.
    public func release() {
        guard holders > 0 else { return }
        holders -= 1
        guard holders == 0, let lock else { return }
        decide(lock)
        self.lock = nil
        lock.release()
    }

    private func take(_ reason: String) {
        let lock = InhibitorLock(program: program, leavingTime: leavingTime)
        self.lock = lock
        isDecided = false
        isRefused = true
        lock.take(who: who, reason: reason) {
            if lock === self.lock { self.isRefused = false }
            self.decide(lock)
        } ended: {
            self.ended(lock, $0)
        }
        EventLoop.shared.call(at: .now + timeout) { self.timedOut(lock) }
    }

    private func decide(_ lock: InhibitorLock) {
        guard lock === self.lock, !isDecided else { return }
        isDecided = true
        for continuation in waiting { continuation.resume() }
        waiting = []
    }

    private func timedOut(_ lock: InhibitorLock) {
        guard lock === self.lock, !isDecided else { return }
        report("systemd-logind has not answered within \(timeout)", hint: "check systemctl status systemd-logind")
        decide(lock)
    }

    private func ended(_ lock: InhibitorLock, _ failure: String) {
        guard lock === self.lock else { return }
        report(failure, hint: "check that systemd-inhibit --list works")
        decide(lock)
        self.lock = nil
    }

    private func report(_ reason: String, hint: String) {
        guard !hasGivenNotice else { return }
        hasGivenNotice = true
        notice(
            CoreNotice(
                .info, "sleep and shutdown of the machine are not inhibited while jobs run: \(reason); \(hint)"))
    }
}

/// One inhibitor of systemd-logind, held by a child process: `systemd-inhibit … cat`, whose input is a pipe that is
/// never written to.
///
/// It ends with this process: the pipe is closed, `cat` ends, then systemd-inhibit and the inhibitor.
@MainActor final class InhibitorLock {
    private let program: FilePath
    /// The grace period of the child after its input is closed, and the kill timeout after SIGTERM.
    private let leavingTime: Duration
    private var child: ChildProcess?
    private var isReleased = false

    init(program: FilePath, leavingTime: Duration) {
        self.program = program
        self.leavingTime = leavingTime
    }

    /// Starts taking it.
    /// - Parameters:
    ///   - held: is called when it is held, possibly more than once.
    ///   - ended: receives the reason why it is not held, or no longer.
    func take(
        who: String, reason: String, held: @escaping @MainActor () -> Void,
        ended: @escaping @MainActor (String) -> Void
    ) {
        Task { ended(await run(who: who, reason: reason, held: held)) }
    }

    /// Releases it. A child that does not end must not delay the job.
    func release() {
        isReleased = true
        closeIfReleased()
    }

    private func closeIfReleased() {
        guard let child, isReleased else { return }
        child.closeInput()
        EventLoop.shared.call(at: .now + leavingTime) { [leavingTime] in child.kill(after: leavingTime) }
    }

    private func run(who: String, reason: String, held: @escaping @MainActor () -> Void) async -> String {
        // The command starts when the inhibitor is held, and reports it.
        let arguments = [
            "--what=sleep:shutdown", "--mode=block", "--who=\(who)", "--why=\(reason)", "/bin/sh", "-c",
            "echo held; exec cat",
        ]
        do {
            try await FileTrust.checkInBackground(program)
            var said = OutputCapture(headLimit: 1024, tailLimit: 0)
            // In a session of its own: signals from the terminal are for the daemon.
            let child = try await ChildProcess.start(
                ChildProcess.Program(program, arguments), input: .open,
                output: .pipe {
                    said.append($0)
                    if said.captured.head.starts(with: "held\n".utf8) { held() }
                })
            self.child = child
            closeIfReleased()
            await child.exited()
            let termination = await child.reap()
            let words = String(decoding: said.captured.head, as: UTF8.self).split(separator: "\n")
            return "\(program.printable) has ended (\(termination)): \(OneLine.escaping(words.joined(separator: " ")))"
        } catch {
            return "\(program.printable) cannot be run (\(error))"
        }
    }
}
