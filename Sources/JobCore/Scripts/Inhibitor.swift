import EventLoop
public import SystemPackage

/// Keeps the machine from going to sleep and from shutting down while jobs run (specification: rows.md L3): one inhibitor of systemd-logind for all of them,
/// taken when the first job begins and given back when the last one has ended.
///
/// Where there is no systemd-inhibit, or logind does not answer, one notice says so, once in the life of this value, and jobs run without it. The
/// next job that begins when none runs tries again.
@MainActor public final class Inhibitor {
    /// Where systemd has it.
    public nonisolated static let usualProgram: FilePath = "/usr/bin/systemd-inhibit"

    private let program: FilePath
    private let who: String
    private let patience: Duration
    private let notice: NoticeHandler

    private var holders = 0
    private var lock: InhibitorLock?
    /// Holds that wait to hear whether the present lock is held.
    private var waiting: [CheckedContinuation<Void, Never>] = []
    private var isDecided = false
    private var hasGivenNotice = false

    /// - Parameters:
    ///   - program: systemd-inhibit.
    ///   - who: this program's name, as `systemd-inhibit --list` shows it.
    ///   - patience: how long a job waits at most for logind's answer. An answer that comes later counts from then on.
    ///   - notice: is told once when there is no inhibitor to be had.
    public nonisolated init(
        program: FilePath = Inhibitor.usualProgram, who: String, patience: Duration = .seconds(2),
        notice: @escaping NoticeHandler
    ) {
        self.program = program
        self.who = who
        self.patience = patience
        self.notice = notice
    }

    /// Holds off sleep and shutdown until the matching ``release()``. It returns when they are held off, or else when that is known to be in vain, and
    /// never later than after the patience.
    /// - Parameter reason: for `systemd-inhibit --list`, such as the job's name; the first holder's is shown.
    public func hold(for reason: String) async {
        holders += 1
        if lock == nil { take(reason) }
        if !isDecided { await withCheckedContinuation { waiting.append($0) } }
    }

    /// Ends what one ``hold(for:)`` began. The last one lets the machine sleep again, and returns when the inhibitor has gone.
    public func release() async {
        guard holders > 0 else { return }
        holders -= 1
        guard holders == 0, let lock else { return }
        decide(lock)
        self.lock = nil
        await lock.release()
    }

    private func take(_ reason: String) {
        let lock = InhibitorLock(program: program)
        self.lock = lock
        isDecided = false
        lock.take(who: who, reason: reason) {
            self.decide(lock)
        } ended: {
            self.ended(lock, $0)
        }
        EventLoop.shared.call(at: .now + patience) { self.timeIsUp(lock) }
    }

    private func decide(_ lock: InhibitorLock) {
        guard lock === self.lock, !isDecided else { return }
        isDecided = true
        for continuation in waiting { continuation.resume() }
        waiting = []
    }

    private func timeIsUp(_ lock: InhibitorLock) {
        guard lock === self.lock, !isDecided else { return }
        tell("systemd-logind has not answered within \(patience)", hint: "see systemctl status systemd-logind")
        decide(lock)
    }

    private func ended(_ lock: InhibitorLock, _ failure: String) {
        guard lock === self.lock else { return }
        tell(failure, hint: "see whether systemd-inhibit --list works")
        decide(lock)
        self.lock = nil
    }

    private func tell(_ reason: String, hint: String) {
        guard !hasGivenNotice else { return }
        hasGivenNotice = true
        notice(
            CoreNotice(
                .info, "sleep and shutdown of the machine are not held off while jobs run: \(reason); \(hint)"))
    }
}
