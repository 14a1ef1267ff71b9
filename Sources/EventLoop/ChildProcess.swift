package import CLinux
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
@MainActor private enum Reaper {
    private static let longestWait = Duration.seconds(5)
    private static let longestPause = Duration.seconds(10)

    /// - Returns: `unknown` if the end is held back, or if something else has reaped it.
    static func reap(_ process: Int32) async -> TerminationStatus {
        let end = ContinuousClock.now + longestWait
        var pause = Duration.milliseconds(1)
        while true {
            if let status = ended(process) { return status }
            guard .now < end else {
                askAgain(process)
                return .unknown
            }
            // Also in a task that is cancelled.
            await withCheckedContinuation { continuation in
                EventLoop.shared.call(at: .now + pause) { continuation.resume() }
            }
            pause = min(pause * 2, .milliseconds(200))
        }
    }

    private static func askAgain(_ process: Int32) {
        EventLoop.shared.call(at: .now + longestPause) { if ended(process) == nil { askAgain(process) } }
    }

    private static func ended(_ process: Int32) -> TerminationStatus? {
        var status: Int32 = 0
        while true {
            let found = waitpid(process, &status, WNOHANG)
            if found >= 0 { return found == 0 ? nil : TerminationStatus(waitStatus: status) }
            guard errno == EINTR else { return .unknown }
        }
    }
}

/// A program that this process starts. Its end and its output are reported on the event loop.
///
/// It leads a session of its own, has no descriptor but the three standard ones and those of its reports, and every signal at its default. What it
/// has started itself may outlive it. Its number is no other's until ``reap()``, which has to be called once ``exited()`` has returned.
@MainActor package final class ChildProcess {
    /// A program with its arguments and environment.
    package struct Program: Sendable {
        /// Absolute.
        package var path: FilePath
        /// Argument 0; nil: the path.
        package var name: String?
        /// The arguments after argument 0.
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

    /// Its standard output or error, or its reports.
    package enum Output: Sendable {
        case discarded
        /// A descriptor that stays the caller's.
        case file(FileDescriptor)
        /// Each piece is reported as it comes, until the program has ended.
        case pipe(@MainActor ([UInt8]) -> Void)
    }

    /// By what the processes are known that it starts, so that the caller can end them.
    package enum Enclosure: Sendable {
        /// Nothing: they may outlive it.
        case none
        /// A cgroup, by a descriptor of its directory that stays the caller's.
        case cgroup(Int32)
        /// A process of its own between this one and the program (`init.c` of CLinux).
        /// - isTied: whether the program is killed when this process ends.
        case initProcess(isTied: Bool)
    }

    /// Its number.
    package nonisolated let id: Int32
    /// A pidfd(2).
    package nonisolated let handle: Int32
    /// Its init process; with the number 0 if it has none.
    package nonisolated let initProcess: clinux_init
    private let input: InputPipe?
    private let outputs: [OutputPipe]
    /// Whether the program has ended.
    package private(set) var hasExited = false
    private var isReaped = false
    private var waiting: [CheckedContinuation<Void, Never>] = []

    // MARK: - Start

    /// Starts a program. A start that has begun is not cut off.
    /// - Parameter error: nil: the same as the output.
    /// - Throws: why it did not begin.
    package static func start(
        _ program: Program, input: Input = .empty, output: Output = .discarded, error: Output? = nil
    ) async throws(Errno) -> ChildProcess {
        let child = try await BlockingWork.run(on: .starts) { () throws(Errno) in
            try ChildProcess(starting: program, input: input, output: output, error: error)
        }
        do throws(Errno) {
            try child.watch()
        } catch {
            child.kill()
            await child.reap()
            throw error
        }
        return child
    }

    /// Starts a program. It blocks until the kernel has loaded it. ``watch()`` has to be called next.
    /// - Parameters:
    ///   - error: nil: the same as the output.
    ///   - reports: where its descriptors 3 and 4 lead; nil: it has none.
    /// - Throws: why it did not begin; `noChildProcess`: its init process was killed immediately.
    package nonisolated init(
        starting program: Program, input: Input = .empty, output: Output = .discarded, error: Output? = nil,
        reports: Output? = nil, in enclosure: Enclosure = .none
    ) throws(Errno) {
        let directory = try Descriptor(opening: program.workingDirectory, CLINUX_O_PATH | O_DIRECTORY)
        let (itsInput, inputPipe) = try InputPipe.open(input)
        var outputPipes: [OutputPipe] = []
        func descriptor(_ output: Output) throws(Errno) -> Descriptor {
            switch output {
            case .discarded: return try Descriptor(opening: "/dev/null", O_WRONLY)
            case .file(let file): return Descriptor(file.rawValue, isOurs: false)
            case .pipe(let take):
                let pipe = try Descriptor.pipe(nonBlocking: \.reader)
                outputPipes.append(OutputPipe(pipe.reader, take))
                return pipe.writer
            }
        }
        let itsOutput = try descriptor(output)
        let itsError = try error.map(descriptor) ?? itsOutput
        let itsReports = try reports.map(descriptor) ?? .none
        var (id, handle): (Int32, Int32) = (0, -1)
        var initProcess = clinux_init(process: 0, control: -1)
        let fault = withExtendedLifetime((directory, itsInput, itsOutput, itsError, itsReports)) {
            program.path.withPlatformString { path in
                withCStrings([program.name ?? program.path.string] + program.arguments) { arguments in
                    withCStrings(program.environment.map { "\($0.key)=\($0.value)" }) { environment in
                        var start = clinux_program(
                            path: path, arguments: arguments, environment: environment, directory: directory.number,
                            input: itsInput.number, output: itsOutput.number, error: itsError.number,
                            reports: itsReports.number, cgroup: -1, dies_with_parent: 0)
                        switch enclosure {
                        case .none: return clinux_spawn(&id, &handle, &start)
                        case .cgroup(let cgroup):
                            start.cgroup = cgroup
                            return clinux_spawn(&id, &handle, &start)
                        case .initProcess(let isTied):
                            start.dies_with_parent = 1
                            return clinux_spawn_with_init(&initProcess, &id, &handle, &start, isTied ? 1 : 0)
                        }
                    }
                }
            }
        }
        guard fault == 0 else { throw Errno(rawValue: fault) }
        self.id = id
        self.handle = handle
        self.initProcess = initProcess
        self.input = inputPipe
        self.outputs = outputPipes
    }

    /// Begins to report. If it fails, the program has to be killed and reaped.
    package func watch() throws(Errno) {
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
        outputs.forEach { $0.finish() }
        waiting.forEach { $0.resume() }
        waiting = []
    }

    /// Reaps the process, so that the kernel may reuse its number. To be called once.
    /// - Returns: also `unknown` if its init process was killed, or another process holds its end back (``Reaper``).
    @discardableResult
    package func reap() async -> TerminationStatus {
        outputs.forEach { $0.stop() }
        EventLoop.shared.forget(handle)
        isReaped = true
        defer { close(handle) }
        guard initProcess.process > 0 else { return await Reaper.reap(id) }
        // It may have to wait for a CPU.
        return await BlockingWork.run { [initProcess] in
            var status: Int32 = 0
            let fault = withUnsafePointer(to: initProcess) { clinux_end_init($0, &status) }
            return fault == 0 ? TerminationStatus(waitStatus: status) : .unknown
        }
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
private func withCStrings<Value>(
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

    /// - Parameter flags: as of open(2); O_CLOEXEC is implied.
    init(opening path: FilePath, _ flags: Int32) throws(Errno) {
        number = path.withPlatformString { open($0, flags | O_CLOEXEC) }
        isOurs = true
        guard number >= 0 else { throw Errno(rawValue: errno) }
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
    private nonisolated init(_ pipe: Descriptor.Pipe, _ unsent: [UInt8], _ next: (@MainActor () -> [UInt8]?)?) {
        (reader, writer) = pipe
        self.unsent = unsent[...]
        self.next = next
    }

    /// - Returns: the program's descriptor, and the pipe if it is the end of one.
    nonisolated static func open(_ input: ChildProcess.Input) throws(Errno) -> (Descriptor, InputPipe?) {
        func pipe(
            _ unsent: [UInt8], then next: (@MainActor () -> [UInt8]?)?
        ) throws(Errno) -> (Descriptor, InputPipe?) {
            let pipe = try Descriptor.pipe(nonBlocking: \.writer)
            return (pipe.reader, InputPipe(pipe, unsent, next))
        }
        return switch input {
        case .empty: (.none, nil)
        case .file(let file): (Descriptor(file.rawValue, isOurs: false), nil)
        case .bytes(let bytes): try pipe(bytes, then: { nil })
        case .pieces(let next): try pipe([], then: next)
        case .open: try pipe([], then: nil)
        }
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
    /// Open as long as this value exists: what has outlived the program may still write.
    private let reader: Descriptor
    /// nil: nothing is read any more.
    private var take: (@MainActor ([UInt8]) -> Void)?
    /// For the time of one read. The default capacity of a pipe.
    private static let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 * 1024, alignment: 16)
    /// Without privileges no pipe holds more.
    private static let largestPipe = 1 << 20

    nonisolated init(_ reader: Descriptor, _ take: @escaping @MainActor ([UInt8]) -> Void) {
        self.reader = reader
        self.take = take
    }

    func watch() throws(Errno) {
        try EventLoop.shared.watch(reader.number, for: .readable) { _ in _ = self.read() }
    }

    /// - Returns: how many bytes there were; 0: no more for now, or ever.
    private func read() -> Int {
        let count = Glibc.read(reader.number, Self.buffer.baseAddress, Self.buffer.count)
        if count == 0 { stop() }
        guard count > 0 else { return 0 }
        take?(Array(Self.buffer[..<count]))
        return count
    }

    /// Reads the available bytes: a process that has outlived the program may hold the other end for ever.
    func finish() {
        var left = Self.largestPipe
        while take != nil, left > 0, case let count = read(), count > 0 { left -= count }
        stop()
    }

    func stop() {
        EventLoop.shared.forget(reader.number)
        // The function may hold the owner of this process.
        take = nil
    }
}
