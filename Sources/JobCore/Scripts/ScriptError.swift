import Glibc
public import SystemPackage

/// Why a script could not be started. A script that was started always gives a ``ScriptResult``, with one exception: ``Code/lost``.
public struct ScriptError: Error, Hashable, Sendable {
    /// What kind of fault it is.
    public enum Code: Hashable, Sendable {
        /// The executable's or the working directory's path is not absolute, or holds a NUL.
        case path
        /// An argument holds a NUL.
        case argument
        /// The name of a variable is empty, begins with a digit or holds `=`, or name or value hold a NUL.
        case environment
        /// The working directory is not there, or may not be entered.
        case workingDirectory
        /// There is nothing at the path.
        case notFound
        /// There is something at the path that is no regular file.
        case notAFile
        /// The file may not be executed.
        case notExecutable
        /// The file's first line names an interpreter that is not there.
        case interpreter
        /// Neither a program of this machine nor a first line with an interpreter.
        case format
        /// Somebody has the file open for writing.
        case busy
        /// Arguments and environment together are longer than the kernel allows.
        case tooLong
        /// Processes, memory or descriptors have run out.
        case resources
        /// It could not be run as the user it was to run as, or this user may not run it. Its first line was not reached.
        case user
        /// The task was cancelled before the script was started.
        case cancelled
        /// The script was started, and then the system refused to tell of it. It was told to leave, and what became of it is unknown.
        case lost
        /// The system gave another reason, which the message holds.
        case other
    }

    /// What kind of fault it is.
    public var code: Code
    /// The path that the error is about.
    public var path: FilePath
    /// What the kernel said; nil when it was not asked.
    public var errno: Errno?
    /// What was wrong, and where.
    public var reason: String
    /// What mends it.
    public var hint: String

    /// The parts of the message; the runner makes them.
    public init(_ code: Code, path: FilePath, errno: Errno? = nil, reason: String, hint: String) {
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
    /// `path: reason (kernel's words, errno number); hint`
    public var description: String { "\(finding); \(hint)" }

    /// The description without how to fix it.
    package var finding: String {
        let kernel = errno.map { " (\($0), errno \($0.rawValue))" } ?? ""
        return "\(path.printable): \(reason)\(kernel)"
    }
}

extension ScriptError {
    /// Finds out why a program could not be started.
    ///
    /// The kernel's number alone does not tell: a missing interpreter and a missing script are both ENOENT. So look at what is there now;
    /// it may have been changed since, and then the message speaks of the present.
    /// - Parameter errno: what the start itself failed with, where it is known.
    static func start(of invocation: ScriptInvocation, errno number: Errno?) -> ScriptError {
        let path = invocation.executable
        switch number {
        case Errno.argListTooLong:
            return ScriptError(
                .tooLong, path: path, errno: number,
                reason: "arguments and environment are longer than the kernel allows",
                hint: "shorten them (getconf ARG_MAX tells the limit)")
        case Errno.execFormatError:
            return ScriptError(
                .format, path: path, errno: number, reason: "is neither a program of this machine nor a script",
                hint: "let its first line name an interpreter, such as #!/bin/sh")
        case Errno.textFileBusy:
            return ScriptError(
                .busy, path: path, errno: number, reason: "is being written",
                hint: "try again when it is closed (lsof \(path.shellWord) tells by whom it is open)")
        case let number? where number.isShortage || number == .resourceTemporarilyUnavailable:
            return ScriptError(
                .resources, path: path, errno: number,
                reason: "cannot be started for want of descriptors, memory or processes",
                hint: number.shortageHint(at: path.removingLastComponent()))
        default:
            return atPath(path, errno: number)
        }
    }

    /// - Parameter errno: what waiting for a script that has ended failed with.
    static func lostEnd(of invocation: ScriptInvocation, _ session: ScriptSession, errno number: Errno) -> ScriptError {
        if case .descendants = session.extent { return lostBelowInit(of: invocation) }
        return ScriptError(
            .lost, path: invocation.executable, errno: number, reason: "has ended, and nobody knows how",
            hint: "see that nothing else in this program waits for all children (waitpid(-1))")
    }

    /// The init process of a script was killed, and with it the script's own process.
    static func lostBelowInit(of invocation: ScriptInvocation) -> ScriptError {
        ScriptError(
            .lost, path: invocation.executable, errno: .noChildProcess,
            reason: "was killed, since its parent process (\(ScriptInit.name)) was",
            hint: "look for what it has left running, and see that it kills neither its parent nor all of its user")
    }

    /// - Parameter errno: what opening or entering the working directory failed with.
    static func workingDirectory(of invocation: ScriptInvocation, errno number: Errno) -> ScriptError {
        let path = invocation.workingDirectory
        switch number {
        case _ where number.isShortage: return start(of: invocation, errno: number)
        default:
            return ScriptError(
                .workingDirectory, path: path, errno: number, reason: "cannot be the working directory",
                hint: "see that it exists, is a directory and can be entered (ls -ld \(path.shellWord))")
        }
    }

    private static func atPath(_ path: FilePath, errno number: Errno?) -> ScriptError {
        var status = stat()
        guard path.withPlatformString({ stat($0, &status) }) == 0 else {
            let found = Errno(rawValue: Glibc.errno)
            return ScriptError(
                found == .noSuchFileOrDirectory ? .notFound : .other, path: path, errno: found,
                reason: "cannot be started: it cannot be found or reached",
                hint:
                    "install it, or correct the setting that names it (namei -l \(path.shellWord) shows every directory)"
            )
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            return ScriptError(
                .notAFile, path: path, errno: number, reason: "cannot be started: it is no regular file",
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
                hint: "try it by hand: env -i \(path.shellWord)")
        }
        let there = interpreter.withPlatformString({ faccessat(AT_FDCWD, $0, X_OK, AT_EACCESS) }) == 0
        let cause = there ? number : Errno(rawValue: Glibc.errno)
        return ScriptError(
            .interpreter, path: path, errno: cause,
            reason: "cannot be started by the interpreter its first line names, \(interpreter.printable)",
            hint:
                "install the interpreter, or correct the first line (a carriage return at its end counts as part of the name)"
        )
    }

    /// The interpreter of a `#!` line, or nil.
    private static func interpreter(of path: FilePath) -> FilePath? {
        guard let file = path.withPlatformString({ fopen($0, "re") }) else { return nil }
        defer { fclose(file) }
        let beginning = [UInt8](unsafeUninitializedCapacity: 256) { buffer, count in
            count = fread(buffer.baseAddress, 1, buffer.count, file)
        }
        guard beginning.starts(with: "#!".utf8) else { return nil }
        let blanks: Set<UInt8> = [UInt8(ascii: " "), UInt8(ascii: "\t")]
        let word = beginning.dropFirst(2).drop(while: blanks.contains)
            .prefix { !blanks.contains($0) && $0 != UInt8(ascii: "\n") && $0 != 0 }
        return word.isEmpty ? nil : FilePath(String(decoding: word, as: UTF8.self))
    }
}
