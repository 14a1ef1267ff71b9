package import EventLoop
import JobCore
package import SystemPackage

/// The program by which the system takes mail, once for each mail: `sendmail -i -t`, the mail on its standard input.
///
/// The script runner of jobs is not for it: that gives a script no input, and ends whatever outlives it, which with exim is the delivery.
package struct SendmailProgram: Sendable {
    /// Why a mail was not taken.
    package struct Refusal: Error, Hashable, Sendable, CustomStringConvertible {
        /// What happened, with what the program said.
        package let reason: String
        /// What to do about it.
        package let hint: String
        /// The reason and the hint.
        package var description: String { "\(reason); \(hint)" }
    }

    private let path: FilePath
    private let timeLimit: Duration
    private let clock: any SteadyClock

    /// - Parameters:
    ///   - path: absolute.
    ///   - timeLimit: how long it may take for a mail before it is killed.
    package init(path: FilePath, timeLimit: Duration = .seconds(60)) {
        self.init(path: path, timeLimit: timeLimit, clock: ContinuousClock())
    }

    /// - Parameter clock: by which the time limit goes.
    package init(path: FilePath, timeLimit: Duration, clock: any SteadyClock) {
        self.path = path
        self.timeLimit = timeLimit
        self.clock = clock
    }

    /// Hands over a mail and waits for the program's end.
    ///
    /// - Throws: ``Refusal``, also when the program is missing or hangs; `CancellationError` when the task is cancelled before the end.
    package func send(_ mail: String) async throws {
        if let fault = await BlockingWork.run({ [path] in TrustedPath("SENDMAIL", path, .program).fault }) {
            throw Refusal(reason: fault.finding, hint: fault.hint)
        }
        let outcome: ChildProcess.Outcome
        do {
            outcome = try await ChildProcess.run(
                ChildProcess.Program(path, ["-i", "-t"]), input: .bytes(Array(mail.utf8)), keeping: 300,
                isMerged: true, until: Deadline(in: timeLimit, by: clock))
        } catch let error as Errno {
            throw Refusal(
                reason: "\(path) cannot be started (\(error))",
                hint: "install a mail transport, or name its sendmail program in SENDMAIL in [Mail]")
        }
        switch outcome.termination {
        case _ where outcome.isLate: throw refusal("took longer than \(timeLimit) and was killed", outcome.output)
        case .exited(0): return
        case .exited(let code): throw refusal("ended with exit code \(code)", outcome.output)
        case .signaled(let signal): throw refusal("was ended by signal \(signal)", outcome.output)
        }
    }

    private func refusal(_ what: String, _ output: [UInt8]) -> Refusal {
        let text = String(decoding: output, as: UTF8.self)
        let said = text[..<(text.lastIndex { !$0.isWhitespace }.map { text.index(after: $0) } ?? text.startIndex)]
        return Refusal(
            reason: "\(path) \(what)\(said.isEmpty ? "" : ": \(OneLine.escaping(String(said)))")",
            hint: "look into the mail transport's log")
    }
}
