import EventLoop
import SystemPackage

/// One inhibitor of systemd-logind, as a child of ours: `systemd-inhibit … cat`, whose input is a pipe that nobody writes to.
///
/// It ends with us, whatever ends us: the pipe is closed, `cat` ends, and with it systemd-inhibit and the inhibitor.
@MainActor final class InhibitorLock {
    private let program: FilePath
    private var child: ChildProcess?
    private var isLetGo = false
    private var life: Task<Void, Never>?

    /// How long the child may take to leave when it has been let go, and again after SIGTERM; in the end it is killed.
    private static let leavingTime = Duration.seconds(1)

    init(program: FilePath) { self.program = program }

    /// Begins to take it.
    /// - Parameters:
    ///   - held: is called when it is held, perhaps more than once.
    ///   - ended: is told why it is not held, or no longer.
    func take(
        who: String, reason: String, held: @escaping @MainActor () -> Void,
        ended: @escaping @MainActor (String) -> Void
    ) {
        life = Task { ended(await run(who: who, reason: reason, held: held)) }
    }

    /// Gives it back. Returns when the child has gone, or when it does not go although it was killed: that is no reason to hold a job.
    func release() async {
        isLetGo = true
        letGo()
        let leaving = OrderlyStop(grace: Self.leavingTime * 2, patience: Self.leavingTime * 2)
        await leaving.run(by: SystemWallClock(), ended: { [life] in await life?.value }, cutOff: {})
    }

    private func letGo() {
        guard let child, isLetGo else { return }
        child.closeInput()
        EventLoop.shared.call(at: .now + Self.leavingTime) { child.kill(after: Self.leavingTime) }
    }

    private func run(who: String, reason: String, held: @escaping @MainActor () -> Void) async -> String {
        // The command begins when the inhibitor is held, and says so.
        let arguments = [
            "--what=sleep:shutdown", "--mode=block", "--who=\(who)", "--why=\(reason)", "/bin/sh", "-c",
            "echo held; exec cat",
        ]
        do {
            try await FileTrust.checkInBackground(program)
            var said = OutputCapture(headLimit: 1024, tailLimit: 0)
            // A signal from the terminal is for us: jobs end first.
            let child = try await ChildProcess.start(
                ChildProcess.Program(program, arguments), input: .open,
                output: .pipe {
                    said.append($0)
                    if said.captured.head.starts(with: "held\n".utf8) { held() }
                })
            self.child = child
            letGo()
            await child.exited()
            let ending = child.reap()
            let words = String(decoding: said.captured.head, as: UTF8.self).split(separator: "\n")
            return "\(program.printable) has ended (\(ending)): \(OneLine.escaping(words.joined(separator: " ")))"
        } catch {
            return "\(program.printable) cannot be run (\(error))"
        }
    }
}
