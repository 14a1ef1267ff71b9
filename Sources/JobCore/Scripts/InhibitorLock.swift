import Subprocess
import SystemPackage

/// One inhibitor of systemd-logind, as a child of ours: `systemd-inhibit … cat`, whose input is a pipe that nobody writes to.
///
/// It ends with us, whatever ends us: the pipe is closed, `cat` ends, and with it systemd-inhibit and the inhibitor.
final class InhibitorLock: Sendable {
    /// Yields when the inhibitor is held, and ends when it is not, or no longer.
    let held: AsyncStream<Void>
    private let letGo: AsyncStream<Never>.Continuation
    private let run: Task<String, Never>

    /// How long the child may take to leave when it has been let go, and again after SIGTERM; in the end it is killed.
    private static let leavingTime = Duration.seconds(1)

    /// Begins to take it.
    init(program: FilePath, who: String, reason: String) {
        let (held, isHeld) = AsyncStream<Void>.makeStream()
        let (wish, letGo) = AsyncStream<Never>.makeStream()
        self.held = held
        self.letGo = letGo
        run = Task {
            let failure = await Self.run(program, who: who, reason: reason, wish, letGo) { isHeld.yield() }
            isHeld.finish()
            return failure
        }
    }

    /// Gives it back. Returns when the child has gone, or when it does not go although it was killed: that is no reason to hold a job.
    func release() async {
        letGo.finish()
        let leaving = OrderlyStop(grace: Self.leavingTime * 2, patience: Self.leavingTime * 2)
        await leaving.run(by: SystemWallClock(), ended: { [run] in _ = await run.value }, cutOff: {})
    }

    /// Why the child has ended without having been asked to. Returns when it has.
    func failure() async -> String { await run.value }

    private static func run(
        _ program: FilePath, who: String, reason: String, _ wish: AsyncStream<Never>,
        _ letGo: AsyncStream<Never>.Continuation, isHeld: @escaping @Sendable () -> Void
    ) async -> String {
        var options = PlatformOptions()
        // A signal from the terminal is for us: jobs end first.
        options.createSession = true
        // The command begins when the inhibitor is held, and says so.
        let arguments = [
            "--what=sleep:shutdown", "--mode=block", "--who=\(who)", "--why=\(reason)", "/bin/sh", "-c",
            "echo held; exec cat",
        ]
        do {
            try await FileTrust.checkInBackground(program)
            let reservation = try StartReservation()
            let outcome = try await Subprocess.run(
                .path(program), arguments: Arguments(arguments),
                environment: .custom(["PATH": "/usr/sbin:/usr/bin:/sbin:/bin"]), workingDirectory: "/",
                platformOptions: options, input: .inputWriter, output: .sequence, error: .combinedWithOutput
            ) { execution in
                reservation.release()
                async let leaving: Void = {
                    for await _ in wish {}
                    try await execution.standardInputWriter.finish()
                    await execution.teardown(using: [
                        .send(signal: Signal(rawValue: 0), allowedDurationToNextStep: leavingTime),
                        .send(signal: .terminate, toProcessGroup: true, allowedDurationToNextStep: leavingTime),
                    ])
                }()
                var said = OutputCapture(headLimit: 1024, tailLimit: 0)
                for try await chunk in execution.standardOutput {
                    chunk.withUnsafeBytes { said.append($0) }
                    if said.captured.head.starts(with: "held\n".utf8) { isHeld() }
                }
                letGo.finish()
                try await leaving
                return String(decoding: said.captured.head, as: UTF8.self)
            }
            let said = outcome.closureResult.split(separator: "\n").joined(separator: " ")
            return "\(program.printable) has ended (\(outcome.terminationStatus)): \(OneLine.escaping(said))"
        } catch {
            return "\(program.printable) cannot be run (\(error))"
        }
    }
}
