public import SystemPackage

/// Which file a script was when it was checked: for the history.
public struct ScriptIdentity: Hashable, Sendable {
    /// The path as it was asked for.
    public var path: FilePath
    /// Where the path led in the end, without symbolic links.
    public var resolvedPath: FilePath
    /// The file system's number.
    public var device: UInt64
    /// The file's number on its file system.
    public var inode: UInt64
    /// The owner's user number.
    public var owner: UInt32
    /// Permission bits, set-id bits and sticky bit, without the file type.
    public var mode: UInt32
    /// In bytes.
    public var size: Int64
    /// When the contents were changed last: time since 1970-01-01 00:00 UTC.
    public var modified: Duration
    /// SHA-256 of the contents as 64 lower-case hexadecimal digits; nil when they were not looked at or may not be read (a program can be
    /// executable without being readable). ``ScriptFingerprint`` fills it.
    public var sha256: String?

    /// Which file it is, whatever its name.
    struct Place: Hashable {
        let device: UInt64, inode: UInt64
    }

    var place: Place { Place(device: device, inode: inode) }
}
