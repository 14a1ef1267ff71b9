package import EventLoop
import Glibc
import JobCore
import Subprocess
public import SystemPackage

/// The program by which the system takes mail, once for each mail: `sendmail -i -t`, the mail on its standard input.
///
/// The script runner of jobs is not for it: that gives a script no input, and ends whatever outlives it, which with exim is the delivery.
public struct SendmailProgram: Sendable {
    /// Why a mail was not taken.
    public struct Refusal: Error, Hashable, Sendable, CustomStringConvertible {
        /// What happened, with what the program said.
        public let reason: String
        /// What to do about it.
        public let cure: String
        /// The reason and the cure.
        public var description: String { "\(reason); \(cure)" }
    }

    private let path: FilePath
    private let timeLimit: Duration
    private let clock: any SteadyClock

    /// - Parameters:
    ///   - path: absolute.
    ///   - timeLimit: how long it may take for a mail before it is killed.
    public init(path: FilePath, timeLimit: Duration = .seconds(60)) {
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
    public func send(_ mail: String) async throws {
        if let fault = await BlockingWork.run({ [path] in TrustedPath("SENDMAIL", path, .program).fault }) {
            throw Refusal(reason: fault.finding, cure: fault.cure)
        }
        let input = try Self.temporaryFile(holding: Array(mail.utf8))
        defer { Self.close(input) }
        let output = try Self.temporaryFile(holding: [])
        defer { Self.close(output) }
        var options = PlatformOptions()
        options.createSession = true
        options.teardownSequence = [
            .send(signal: .kill, toProcessGroup: true, allowedDurationToNextStep: .seconds(1))
        ]
        let end = clock.now + timeLimit
        let status = try await withThrowingTaskGroup(of: TerminationStatus?.self) { [options] tasks in
            tasks.addTask {
                do {
                    return try await Subprocess.run(
                        .path(path), arguments: ["-i", "-t"],
                        environment: .custom(["PATH": "/usr/sbin:/usr/bin:/sbin:/bin"]), workingDirectory: "/",
                        platformOptions: options, input: .fileDescriptor(input, closeAfterSpawningProcess: false),
                        output: .fileDescriptor(output, closeAfterSpawningProcess: false),
                        error: .fileDescriptor(output, closeAfterSpawningProcess: false)
                    ).terminationStatus
                } catch let error as SubprocessError {
                    throw Refusal(
                        reason: "\(path) cannot be started (\(error.underlyingError.map { "\($0)" } ?? "\(error)"))",
                        cure: "install a mail transport, or name its sendmail program in SENDMAIL in [Mail]")
                }
            }
            tasks.addTask {
                try await clock.sleep(until: end, tolerance: nil)
                return nil
            }
            // Cancelling the rest kills the program's session; the group waits for its end.
            defer { tasks.cancelAll() }
            return try await tasks.next() ?? nil
        }
        try Task.checkCancellation()
        switch status {
        case .exited(0): return
        case .exited(let code): throw refusal("ended with exit code \(code)", Self.said(in: output))
        case .signaled(let signal): throw refusal("was ended by signal \(signal)", Self.said(in: output))
        case nil: throw refusal("took longer than \(timeLimit) and was killed", Self.said(in: output))
        }
    }

    private func refusal(_ what: String, _ said: String) -> Refusal {
        Refusal(
            reason: "\(path) \(what)\(said.isEmpty ? "" : ": \(OneLine.escaping(said))")",
            cure: "look into the mail transport's log")
    }

    /// A file without a name, gone with its last holder, at its beginning.
    private static func temporaryFile(holding bytes: [UInt8]) throws -> FileDescriptor {
        var name = Array("/tmp/mail-XXXXXX".utf8CString)
        let number = mkstemp(&name)
        guard number >= 0 else { throw Errno(rawValue: errno) }
        _ = fcntl(number, F_SETFD, FD_CLOEXEC)
        unlink(&name)
        let file = FileDescriptor(rawValue: number)
        do {
            try file.writeAll(bytes)
            _ = try file.seek(offset: 0, from: .start)
        } catch {
            close(file)
            throw error
        }
        return file
    }

    /// The beginning of what the program has said.
    private static func said(in file: FileDescriptor) -> String {
        var bytes = [UInt8](repeating: 0, count: 300)
        let count = bytes.withUnsafeMutableBytes { pread(file.rawValue, $0.baseAddress, $0.count, 0) }
        let text = String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
        return String(text[..<(text.lastIndex { !$0.isWhitespace }.map { text.index(after: $0) } ?? text.startIndex)])
    }

    private static func close(_ file: FileDescriptor) { _ = Glibc.close(file.rawValue) }
}
