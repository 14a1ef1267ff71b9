import EventLoop
import Glibc
public import SystemPackage

/// Why a script could not be started. A script that was started always has a ``ScriptResult``, except for
/// ``Code/lost``.
public struct ScriptError: Error, Hashable, Sendable {
    /// What kind of fault it is.
    public enum Code: Hashable, Sendable {
        /// The path of the executable or the working directory is not absolute, or contains a NUL.
        case path
        /// An argument contains a NUL.
        case argument
        /// The name of a variable is empty, begins with a digit or contains `=`, or name or value contain a NUL.
        case environment
        /// The working directory does not exist or cannot be entered.
        case workingDirectory
        /// The file does not exist.
        case notFound
        /// The path is not a regular file.
        case notAFile
        /// The file is not executable.
        case notExecutable
        /// The interpreter in the file's first line does not exist.
        case interpreter
        /// Neither a program for this machine nor a script with an interpreter line.
        case format
        /// The file is open for writing.
        case busy
        /// Arguments and environment exceed the kernel's limit.
        case tooLong
        /// Out of processes, memory or descriptors.
        case resources
        /// The script could not be run as its user, or this user may not run it. Its first line was not reached.
        case user
        /// The task was cancelled before the start.
        case cancelled
        /// The script was started, but its end cannot be observed. It was told to end; the outcome is unknown.
        case lost
        /// Another system error, which the message contains.
        case other
    }

    /// What kind of fault it is.
    public var code: Code
    /// The path in question.
    public var path: FilePath
    /// The system error; nil if there was none.
    public var errno: Errno?
    /// What was wrong.
    public var reason: String
    /// How to fix it.
    public var hint: String

    /// Made by ``ScriptRunner``.
    package init(_ code: Code, path: FilePath, errno: Errno? = nil, reason: String, hint: String) {
        self.code = code
        self.path = path
        self.errno = errno
        self.reason = reason
        self.hint = hint
    }

    /// What another try can be expected to bring.
    public var failureClass: FailureClass {
        if errno?.isShortage == true { return .shortage }
        return switch code {
        case .resources: .shortage
        case .busy, .cancelled, .lost: .retryable
        case .argument, .environment, .tooLong: .permanent
        case .path, .workingDirectory, .notFound, .notAFile, .notExecutable, .interpreter, .format, .user,
            .other:
            .configuration
        }
    }
}

extension ScriptError: CustomStringConvertible {
    /// `path: reason (system error, errno number); hint`
    public var description: String { "\(finding); \(hint)" }

    /// The description without the hint.
    package var finding: String {
        let kernel = errno.map { " (\($0), errno \($0.rawValue))" } ?? ""
        return "\(path.printable): \(reason)\(kernel)"
    }
}

extension ScriptError {
    /// Finds out why a program could not be started.
    ///
    /// The error number is ambiguous: a missing interpreter and a missing script are both ENOENT. So the files are
    /// examined now; if they were changed meanwhile, the message describes the present state.
    /// - Parameter errno: of the start; `noChildProcess`: its init process was killed.
    static func start(of invocation: ScriptInvocation, errno number: Errno) -> ScriptError {
        let path = invocation.executable
        switch number {
        case Errno.argListTooLong:
            return ScriptError(
                .tooLong, path: path, errno: number,
                reason: "arguments and environment are longer than the kernel allows",
                hint: "shorten them (getconf ARG_MAX shows the limit)")
        case Errno.execFormatError:
            return ScriptError(
                .format, path: path, errno: number, reason: "is neither a program of this machine nor a script",
                hint: "add a first line that names an interpreter, such as #!/bin/sh")
        case Errno.textFileBusy:
            return ScriptError(
                .busy, path: path, errno: number, reason: "is being written",
                hint: "retry when it is closed (lsof \(path.shellWord) shows which process has it open)")
        case Errno.identifierRemoved:
            return ScriptError(
                .resources, path: path, errno: number, reason: "was not started: its cgroup has been removed",
                hint: "find out which program removes cgroups below that of the daemon (systemd-cgls)")
        case _ where number.isShortage || number == .resourceTemporarilyUnavailable:
            return ScriptError(
                .resources, path: path, errno: number,
                reason: "cannot be started: out of descriptors, memory or processes",
                hint: number.shortageHint(at: path.removingLastComponent()))
        case Errno.noChildProcess: return lostBelowInit(of: invocation)
        default: return faultOfWorkingDirectory(of: invocation) ?? atPath(path, errno: number)
        }
    }

    /// The script's process has ended, and its status is unknown.
    static func lostEnd(of invocation: ScriptInvocation, _ tree: ProcessTree, _ process: Int32) -> ScriptError {
        if case .descendants = tree.extent { return lostBelowInit(of: invocation) }
        guard kill(process, 0) == 0 else {
            return ScriptError(
                .lost, path: invocation.executable, errno: .noChildProcess,
                reason: "has ended, and its exit status is unknown",
                hint: "make sure that nothing else in this program waits for all children (waitpid(-1))")
        }
        // Another process traces the script and does not let go of it.
        return ScriptError(
            .lost, path: invocation.executable,
            reason:
                "has ended, and the process that traces it (a debugger, or one of the script's user) hides its exit status",
            hint: "end the process that grep TracerPid /proc/\(process)/status names")
    }

    /// The script's init process was killed, and the script with it.
    private static func lostBelowInit(of invocation: ScriptInvocation) -> ScriptError {
        ScriptError(
            .lost, path: invocation.executable, errno: .noChildProcess,
            reason: "was killed, since its parent process (\(ScriptInit.name)) was",
            hint:
                "end its leftover processes (ps -ef), and make sure that it kills neither its parent nor all processes of its user"
        )
    }

    /// - Returns: nil if it can be entered.
    private static func faultOfWorkingDirectory(of invocation: ScriptInvocation) -> ScriptError? {
        let path = invocation.workingDirectory
        guard path.appending(".").withPlatformString({ faccessat(AT_FDCWD, $0, X_OK, AT_EACCESS) }) != 0 else {
            return nil
        }
        return ScriptError(
            .workingDirectory, path: path, errno: Errno(rawValue: Glibc.errno),
            reason: "cannot be used as working directory",
            hint: "make sure that it exists, is a directory and can be entered (ls -ld \(path.shellWord))")
    }

    private static func atPath(_ path: FilePath, errno number: Errno) -> ScriptError {
        var status = stat()
        guard path.withPlatformString({ stat($0, &status) }) == 0 else {
            let found = Errno(rawValue: Glibc.errno)
            return ScriptError(
                found == .noSuchFileOrDirectory ? .notFound : .other, path: path, errno: found,
                reason: "cannot be started: it cannot be found or reached",
                hint:
                    "install it, or correct the setting that names it (namei -l \(path.shellWord) shows each directory)"
            )
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            return ScriptError(
                .notAFile, path: path, errno: number, reason: "cannot be started: it is not a regular file",
                hint: "correct the setting that names it")
        }
        guard path.withPlatformString({ faccessat(AT_FDCWD, $0, X_OK, AT_EACCESS) }) == 0 else {
            return ScriptError(
                .notExecutable, path: path, errno: Errno(rawValue: Glibc.errno), reason: "is not executable",
                hint: "chmod u+x \(path.shellWord) (or mount its file system without noexec)")
        }
        guard let interpreter = interpreter(of: path) else {
            return ScriptError(
                .other, path: path, errno: number, reason: "cannot be started",
                hint: "run it by hand: env -i \(path.shellWord)")
        }
        let there = interpreter.withPlatformString({ faccessat(AT_FDCWD, $0, X_OK, AT_EACCESS) }) == 0
        let cause = there ? number : Errno(rawValue: Glibc.errno)
        return ScriptError(
            .interpreter, path: path, errno: cause,
            reason: "cannot be started by the interpreter in its first line, \(interpreter.printable)",
            hint:
                "install the interpreter, or correct the first line (a carriage return at its end counts as part of the name)"
        )
    }

    /// The interpreter of a `#!` line, or nil.
    private static func interpreter(of path: FilePath) -> FilePath? {
        let beginning = try? path.reading { file throws(Errno) in try file.bytes(atMost: 256) }
        guard let beginning, beginning.starts(with: "#!".utf8) else { return nil }
        let blanks: Set<UInt8> = [UInt8(ascii: " "), UInt8(ascii: "\t")]
        let word = beginning.dropFirst(2).drop(while: blanks.contains)
            .prefix { !blanks.contains($0) && $0 != UInt8(ascii: "\n") && $0 != 0 }
        return word.isEmpty ? nil : FilePath(String(decoding: word, as: UTF8.self))
    }
}
