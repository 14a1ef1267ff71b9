import Glibc
import SystemPackage

/// A running slapd that is known to be this sandbox's: its command line names the sandbox's configuration.
///
/// A process id alone proves nothing, it may be another's by now. So the proof is made again before every signal.
struct SlapdProcess: Sendable, Hashable {
    let id: Int32
    let configuration: FilePath

    /// The process that the directory's pid file names, where it runs and is the sandbox's. A stale pid file is none.
    static func running(in files: SandboxFiles) throws(SandboxError) -> SlapdProcess? {
        guard let text = try TextFile.readIfThere(files.pidFile), let id = Int32(text.filter { !$0.isWhitespace })
        else { return nil }
        let process = SlapdProcess(id: id, configuration: files.configuration)
        return process.isRunning ? process : nil
    }

    /// Whether the process runs and is the sandbox's. One that has ended and is not yet reaped does not run.
    var isRunning: Bool {
        guard id > 0, let words = try? TextFile.read(FilePath("/proc/\(id)/cmdline")) else { return false }
        return words.split(separator: "\0").contains { $0 == configuration.string } && !hasEnded
    }

    /// Whether there is no such process any more. While a process is being started its command line reads as empty for
    /// a moment, so this and not ``isRunning`` tells whether a start has failed.
    var hasEnded: Bool { [nil, "Z", "X"].contains(state) }

    /// Whether the process is stopped (SIGSTOP).
    var isPaused: Bool { state == "T" }

    /// The letter of proc(5): R, S, D, T, Z, … or nothing where there is no such process.
    private var state: Character? {
        guard let line = try? TextFile.read(FilePath("/proc/\(id)/stat")) else { return nil }
        // The name in brackets may itself hold brackets and blanks, the state is the first word after the last bracket.
        return line.split(separator: ")").last?.first { $0 != " " }
    }

    /// Sends a signal, where the process still runs and is the sandbox's.
    func signal(_ number: Int32) { if isRunning { Glibc.kill(id, number) } }

    /// Waits until a condition holds, also in a task that has been cancelled: what was started is to be ended then, too.
    ///
    /// - Returns: whether it held before the deadline.
    static func wait(upTo timeout: Duration, until condition: () async -> Bool) async -> Bool {
        let deadline = ContinuousClock.now + timeout
        while true {
            if await condition() { return true }
            if ContinuousClock.now >= deadline { return false }
            await Task<Void, Never> { try? await Task.sleep(for: .milliseconds(5)) }.value
        }
    }

    /// Ends the process: asked first, then forced.
    func end(force: Bool = false) async throws(SandboxError) {
        if !force {
            signal(SIGTERM)
            // A paused server would never see the request.
            signal(SIGCONT)
            if await Self.wait(upTo: .seconds(10), until: { !isRunning }) { return }
        }
        signal(SIGKILL)
        guard await Self.wait(upTo: .seconds(10), until: { !isRunning }) else {
            throw SandboxError(
                .timeout, "slapd, process \(id), does not end", hint: "see with ps what the process waits for")
        }
    }
}
