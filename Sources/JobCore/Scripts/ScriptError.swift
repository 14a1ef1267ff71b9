public import SystemPackage

/// Why a script could not be started. A script that was started always gives a ``ScriptResult``, with one exception: ``Code/lost``.
public struct ScriptError: Error, Hashable, Sendable {
    /// What kind of fault it is.
    public enum Code: Hashable, Sendable {
        /// The executable's or the working folder's path is not absolute, or holds a NUL.
        case path
        /// An argument holds a NUL.
        case argument
        /// The name of a variable is empty, begins with a digit or holds `=`, or name or value hold a NUL.
        case environment
        /// The working folder is not there, or may not be entered.
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
    public var cure: String

    /// The parts of the message; the runner makes them.
    public init(_ code: Code, path: FilePath, errno: Errno? = nil, reason: String, cure: String) {
        self.code = code
        self.path = path
        self.errno = errno
        self.reason = reason
        self.cure = cure
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
    /// `path: reason (kernel's words, errno number); cure`
    public var description: String { "\(finding); \(cure)" }

    /// The description without how to fix it.
    package var finding: String {
        let kernel = errno.map { " (\($0), errno \($0.rawValue))" } ?? ""
        return "\(path.printable): \(reason)\(kernel)"
    }
}
