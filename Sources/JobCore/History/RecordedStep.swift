/// A step of an attempt as the history has it.
public struct RecordedStep: Hashable, Sendable, Codable {
    /// A short noun, such as `pre script` or `rsnapshot`.
    public var name: String
    /// When it began.
    public var began: WallTime
    /// How long it took, in microseconds.
    public var microseconds: Int64
    /// What it came to.
    public var result: JobResult
    /// The program that was run; nil for work without one.
    public var program: RecordedProgram?
}

/// A program that was run: what it was, and what came of it.
public struct RecordedProgram: Hashable, Sendable, Codable {
    /// Its argument vector, argument 0 first.
    public var arguments: [String]
    /// Why it could not be started; nil when it could.
    public var refusal: String?
    /// The file as it was just before the start; nil when it could not be looked at.
    public var file: RecordedFile?
    /// How it ended; nil when it could not be started.
    public var end: RecordedEnd?
}

/// Which file a program was.
public struct RecordedFile: Hashable, Sendable, Codable {
    /// As it was asked for.
    public var path: String
    /// Where that led in the end, without symbolic links.
    public var resolvedPath: String
    /// The file system's number.
    public var device: UInt64
    /// The file's number on its file system.
    public var inode: UInt64
    /// The owner's user number.
    public var owner: UInt32
    /// Permission bits, set-id bits and sticky bit.
    public var mode: UInt32
    /// In bytes.
    public var size: Int64
    /// When the contents were changed last.
    public var modified: WallTime
    /// Of the contents, in hexadecimal digits.
    public var sha256: String?
}

/// How a program ended and what it wrote.
public struct RecordedEnd: Hashable, Sendable, Codable {
    /// Its exit code, unless a signal ended it.
    public var exitCode: Int32?
    /// The signal that ended it.
    public var signal: Int32?
    /// Who brought the end about.
    public var cause: ScriptResult.Cause
    /// From the request to the end of its session, in microseconds.
    public var microseconds: Int64
    /// Processes that outlived it and were ended, by name.
    public var survivors: [String]
    /// What it wrote.
    public var output: CapturedOutput
}
