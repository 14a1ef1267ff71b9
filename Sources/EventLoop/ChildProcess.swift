import CLinux
import Glibc
package import SystemPackage

/// How a process ended.
public enum TerminationStatus: Hashable, Sendable, CustomStringConvertible {
    /// It exited; 0…255.
    case exited(code: Int32)
    /// A signal ended it.
    case signaled(number: Int32)
    /// It has ended, and how is not known.
    case unknown

    /// - Parameter status: of wait(2): the signal in the lowest seven bits, else the exit code in the next eight.
    package init(waitStatus status: Int32) {
        let signal = status & 0x7f
        self = signal == 0 ? .exited(code: status >> 8 & 0xff) : .signaled(number: signal)
    }

    /// `exit code 9` or `signal 15`
    public var description: String {
        switch self {
        case .exited(let code): "exit code \(code)"
        case .signaled(let number): "signal \(number)"
        case .unknown: "an unknown status"
        }
    }
}

/// Reaps child processes that have ended, so that the kernel may reuse their numbers.
///
/// A process that traces another one (ptrace(2)), which any process of the same user may, learns of its end first and can hold it back for as long as
/// it likes. So nothing here blocks, and a process that is held back is asked for again until it is reaped.
@MainActor package enum Reaper {
    private static let longestWait = Duration.seconds(5)
    private static let longestPause = Duration.seconds(10)

    /// - Returns: nil if the end is held back.
    /// - Throws: `noChildProcess` if something else has reaped it.
    package static func reap(_ process: Int32) async throws(Errno) -> TerminationStatus? {
        let end = ContinuousClock.now + longestWait
        var pause = Duration.milliseconds(1)
        while true {
            if let status = try ended(process) { return status }
            guard .now < end else {
                askAgain(process)
                return nil
            }
            // Also in a task that is cancelled.
            await withCheckedContinuation { continuation in
                EventLoop.shared.call(at: .now + pause) { continuation.resume() }
            }
            pause = min(pause * 2, .milliseconds(200))
        }
    }

    private static func askAgain(_ process: Int32) {
        EventLoop.shared.call(at: .now + longestPause) {
            do throws(Errno) { if try ended(process) == nil { askAgain(process) } } catch {
                // Something else has reaped it.
            }
        }
    }

    private static func ended(_ process: Int32) throws(Errno) -> TerminationStatus? {
        var status: Int32 = 0
        while true {
            let found = waitpid(process, &status, WNOHANG)
            if found >= 0 { return found == 0 ? nil : TerminationStatus(waitStatus: status) }
            guard errno == EINTR else { throw Errno(rawValue: errno) }
        }
    }
}

/// A program that this process starts and that is no script of a job. Its end and its output are reported on the event loop.
///
/// It leads a session of its own, has no descriptor but the three standard ones, and every signal at its default. What it has started itself may
/// outlive it. Its number is no other's until ``reap()``, which has to be called once ``exited()`` has returned.
@MainActor package final class ChildProcess {
    /// A program with its arguments and environment.
    package struct Program: Sendable {
        /// Absolute.
        package var path: FilePath
        package var arguments: [String]
        /// Nothing is inherited.
        package var environment: [String: String]
        package var workingDirectory: FilePath

        /// The usual working directory is the root.
        package init(
            _ path: FilePath, _ arguments: [String] = [],
            environment: [String: String] = ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin"],
            in workingDirectory: FilePath = "/"
        ) {
            self.path = path
            self.arguments = arguments
            self.environment = environment
            self.workingDirectory = workingDirectory
        }
    }

    /// Its standard input.
    package enum Input: Sendable {
        /// At its end.
        case empty
        case bytes([UInt8])
        /// A descriptor that stays the caller's.
        case file(FileDescriptor)
        /// The pieces that the closure returns, until it returns nil. Pieces that a program does not read are lost.
        case pieces(@MainActor () -> [UInt8]?)
        /// A pipe for ``write(_:)``, until ``closeInput()``.
        case open
    }

    /// Its standard output or error.
    package enum Output: Sendable {
        case discarded
        /// A descriptor that stays the caller's.
        case file(FileDescriptor)
        /// Each piece is reported as it comes.
        case pipe(@MainActor ([UInt8]) -> Void)
    }

    /// Its number.
    package let id: Int32
    private let handle: Int32
    private let input: InputPipe?
    private let outputs: [OutputPipe]
    private var hasExited = false
    private var isReaped = false
    private var waiting: [CheckedContinuation<Void, Never>] = []

    private init(id: Int32, handle: Int32, input: InputPipe?, outputs: [OutputPipe]) {
        self.id = id
        self.handle = handle
        self.input = input
        self.outputs = outputs
    }

    // MARK: - Start

    /// Starts a program. A start that has begun is not cut off.
    /// - Parameter error: nil: the same as the output.
    /// - Throws: why it did not begin.
    package static func start(
        _ program: Program, input: Input = .empty, output: Output = .discarded, error: Output? = nil
    ) async throws(Errno) -> ChildProcess {
        var inputPipe: InputPipe?
        var outputPipes: [OutputPipe] = []
        func feed(_ next: (@MainActor () -> [UInt8]?)?) throws(Errno) -> Descriptor {
            let pipe = try Descriptor.pipe(nonBlocking: \.writer)
            inputPipe = InputPipe(pipe, next)
            return pipe.reader
        }
        let standardInput: Descriptor
        switch input {
        case .empty: standardInput = .none
        case .file(let file): standardInput = Descriptor(file.rawValue, isOurs: false)
        case .bytes(let bytes):
            var unread: [UInt8]? = bytes
            standardInput = try feed {
                defer { unread = nil }
                return unread
            }
        case .pieces(let next): standardInput = try feed(next)
        case .open: standardInput = try feed(nil)
        }
        func descriptor(_ output: Output) throws(Errno) -> Descriptor {
            switch output {
            case .discarded: return .none
            case .file(let file): return Descriptor(file.rawValue, isOurs: false)
            case .pipe(let take):
                let pipe = try Descriptor.pipe(nonBlocking: \.reader)
                outputPipes.append(OutputPipe(pipe.reader, take))
                return pipe.writer
            }
        }
        let standardOutput = try descriptor(output)
        let standardError = try error.map(descriptor) ?? standardOutput
        let (id, handle) = try await withCheckedContinuation { continuation in
            BlockingWork.begin(on: .starts) {
                continuation.resume(
                    returning: spawn(program, input: standardInput, output: standardOutput, error: standardError))
            }
        }.get()
        let child = ChildProcess(id: id, handle: handle, input: inputPipe, outputs: outputPipes)
        do throws(Errno) {
            try child.watch()
        } catch {
            child.kill()
            await child.reap()
            throw error
        }
        return child
    }

    /// It blocks until the kernel has loaded the program.
    private nonisolated static func spawn(
        _ program: Program, input: Descriptor, output: Descriptor, error: Descriptor
    ) -> Result<(id: Int32, handle: Int32), Errno> {
        let null = Descriptor(open("/dev/null", O_WRONLY | O_CLOEXEC), isOurs: true)
        let directory = Descriptor(
            program.workingDirectory.withPlatformString { open($0, CLINUX_O_PATH | O_DIRECTORY | O_CLOEXEC) },
            isOurs: true)
        guard null.number >= 0, directory.number >= 0 else { return .failure(Errno(rawValue: errno)) }
        var (id, handle): (Int32, Int32) = (0, -1)
        let fault = withExtendedLifetime((null, directory, input, output, error)) {
            program.path.withPlatformString { path in
                withCStrings([program.path.string] + program.arguments) { arguments in
                    withCStrings(program.environment.map { "\($0.key)=\($0.value)" }) { environment in
                        var start = clinux_program(
                            path: path, arguments: arguments, environment: environment, directory: directory.number,
                            input: input.number, output: output.number < 0 ? null.number : output.number,
                            error: error.number < 0 ? null.number : error.number, reports: -1, cgroup: -1,
                            dies_with_parent: 0)
                        return clinux_spawn(&id, &handle, &start)
                    }
                }
            }
        }
        return fault == 0 ? .success((id, handle)) : .failure(Errno(rawValue: fault))
    }

    private func watch() throws(Errno) {
        try EventLoop.shared.watch(handle, for: .readable) { _ in self.noteExit() }
        for output in outputs { try output.watch() }
        try input?.watch()
    }

    // MARK: - End

    /// Returns when the program has ended. Its number stays its own.
    package func exited() async {
        if !hasExited { await withCheckedContinuation { waiting.append($0) } }
    }

    private func noteExit() {
        hasExited = true
        EventLoop.shared.forget(handle)
        input?.close()
        waiting.forEach { $0.resume() }
        waiting = []
    }

    /// Reports the rest in the pipes, and reaps the process, so that the kernel may reuse its number. To be called once.
    @discardableResult
    package func reap() async -> TerminationStatus {
        outputs.forEach { $0.finish() }
        EventLoop.shared.forget(handle)
        isReaped = true
        defer { close(handle) }
        do throws(Errno) { return try await Reaper.reap(id) ?? .unknown } catch { return .unknown }
    }

    /// Ends the program's process group: by SIGTERM and, after a grace period, SIGKILL. Without effect after the process was reaped.
    /// - Parameter grace: zero: by SIGKILL at once.
    package func kill(after grace: Duration = .zero) {
        guard !isReaped else { return }
        Glibc.kill(-id, grace > .zero ? SIGTERM : SIGKILL)
        if grace > .zero { EventLoop.shared.call(at: .now + grace) { self.kill() } }
    }

    /// Writes to an ``Input/open`` standard input, as fast as the program reads. It never waits.
    package func write(_ bytes: [UInt8]) { input?.write(bytes) }

    /// Closes the program's standard input. Data that was not written yet is lost.
    package func closeInput() { input?.close() }

    // MARK: - From start to end

    /// The result of a program.
    package struct Outcome: Sendable {
        package var termination: TerminationStatus
        /// Whether the deadline has cut it off.
        package var isLate = false
        /// The beginning of its standard output.
        package var output: [UInt8] = []
        /// The same of its standard error.
        package var error: [UInt8] = []
    }

    /// Runs a program to its end. Where the deadline comes first or the task is cancelled, its process group is ended.
    /// - Parameters:
    ///   - limit: how much is kept of its output and of its standard error, in bytes; the rest is read and dropped.
    ///   - isMerged: whether its standard error goes where its output does.
    ///   - grace: between SIGTERM and SIGKILL; zero: SIGKILL at once.
    /// - Throws: `Errno` when it does not begin; `CancellationError`.
    package static func run(
        _ program: Program, input: Input = .empty, keeping limit: Int, isMerged: Bool = false,
        until deadline: Deadline? = nil, grace: Duration = .zero
    ) async throws -> Outcome {
        var (written, complaint): ([UInt8], [UInt8]) = ([], [])
        let child = try await start(
            program, input: input, output: .pipe { written += $0.prefix(limit - written.count) },
            error: isMerged ? nil : .pipe { complaint += $0.prefix(limit - complaint.count) })
        var isLate = false
        let timer = Task {
            guard let deadline else { return }
            try await deadline.wait()
            isLate = true
            child.kill(after: grace)
        }
        await withTaskCancellationHandler {
            await child.exited()
        } onCancel: {
            EventLoop.shared.post { child.kill(after: grace) }
        }
        timer.cancel()
        let termination = await child.reap()
        try Task.checkCancellation()
        return Outcome(termination: termination, isLate: isLate, output: written, error: complaint)
    }
}

/// As argument vectors are: pointers to the strings, and a null pointer at the end.
package func withCStrings<Value>(
    _ strings: [String], _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> Value
) -> Value {
    var pointers = strings.map { strdup($0) }
    pointers.append(nil)
    defer { for pointer in pointers { free(pointer) } }
    return pointers.withUnsafeBufferPointer { buffer in
        // An array that is not empty has an address.
        buffer.baseAddress.map(body) ?? withUnsafePointer(to: nil, body)
    }
}

// MARK: - Pipes

/// A descriptor, closed with its last holder where it is ours; a negative number is none.
private final class Descriptor: Sendable {
    typealias Pipe = (reader: Descriptor, writer: Descriptor)

    static let none = Descriptor(-1, isOurs: false)

    let number: Int32
    private let isOurs: Bool

    init(_ number: Int32, isOurs: Bool) {
        self.number = number
        self.isOurs = isOurs
    }

    deinit { if isOurs, number >= 0 { close(number) } }

    /// Both ends are closed by execve(2); a program expects its own one to block.
    static func pipe(nonBlocking ours: (Pipe) -> Descriptor) throws(Errno) -> Pipe {
        let ends = try FileDescriptor.pipe(options: .closeOnExec)
        let pipe = (
            reader: Descriptor(ends.readEnd.rawValue, isOurs: true),
            writer: Descriptor(ends.writeEnd.rawValue, isOurs: true)
        )
        _ = fcntl(ours(pipe).number, F_SETFL, O_NONBLOCK)
        return pipe
    }
}

/// Gives a program its standard input.
@MainActor private final class InputPipe {
    /// The program's end, held here as well, so that writing to a program that has gone raises no SIGPIPE.
    private var reader: Descriptor?
    private var writer: Descriptor?
    private var next: (@MainActor () -> [UInt8]?)?
    private var unsent: ArraySlice<UInt8> = []

    /// - Parameter next: nil: only ``write(_:)`` gives it something.
    init(_ pipe: Descriptor.Pipe, _ next: (@MainActor () -> [UInt8]?)?) {
        (reader, writer) = pipe
        self.next = next
    }

    func watch() throws(Errno) {
        guard let writer else { return }
        try EventLoop.shared.watch(writer.number, for: next == nil ? [] : .writable) { _ in self.send() }
    }

    func write(_ bytes: [UInt8]) {
        guard let writer else { return }
        unsent += bytes
        EventLoop.shared.change(writer.number, to: .writable)
    }

    private func send() {
        guard let writer else { return }
        if unsent.isEmpty, let next {
            guard let piece = next() else { return close() }
            unsent = piece[...]
        }
        let count = unsent.withUnsafeBytes { Glibc.write(writer.number, $0.baseAddress, $0.count) }
        if count >= 0 { unsent = unsent.dropFirst(count) } else if errno != EAGAIN, errno != EINTR { return close() }
        if unsent.isEmpty, next == nil { EventLoop.shared.change(writer.number, to: []) }
    }

    func close() {
        guard let writer else { return }
        EventLoop.shared.forget(writer.number)
        // The function may hold the owner of this process.
        (self.writer, reader, next) = (nil, nil, nil)
    }
}

/// Reads the output of a program.
@MainActor private final class OutputPipe {
    private var reader: Descriptor?
    private var take: (@MainActor ([UInt8]) -> Void)?
    private static let pieceSize = 64 * 1024
    /// Without privileges no pipe holds more.
    private static let largestPipe = 1 << 20

    init(_ reader: Descriptor, _ take: @escaping @MainActor ([UInt8]) -> Void) {
        self.reader = reader
        self.take = take
    }

    func watch() throws(Errno) {
        guard let reader else { return }
        try EventLoop.shared.watch(reader.number, for: .readable) { _ in _ = self.read() }
    }

    /// - Returns: how many bytes there were; 0: no more for now, or ever.
    private func read() -> Int {
        guard let reader else { return 0 }
        let piece = [UInt8](unsafeUninitializedCapacity: Self.pieceSize) { buffer, count in
            let number = Glibc.read(reader.number, buffer.baseAddress, buffer.count)
            if number == 0 { close() }
            count = max(0, number)
        }
        if !piece.isEmpty { take?(piece) }
        return piece.count
    }

    /// Reads the available bytes: a process that has outlived the program may hold the other end for ever.
    func finish() {
        var left = Self.largestPipe
        while left > 0, case let count = read(), count > 0 { left -= count }
        close()
    }

    private func close() {
        guard let reader else { return }
        EventLoop.shared.forget(reader.number)
        // The function may hold the owner of this process.
        (self.reader, take) = (nil, nil)
    }
}
