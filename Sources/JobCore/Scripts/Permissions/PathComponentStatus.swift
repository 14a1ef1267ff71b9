public import SystemPackage

/// What lstat said of one component on the way to a script.
public struct PathComponentStatus: Hashable, Sendable {
    /// What stands at the path itself: a link is not followed.
    public enum Kind: Hashable, Sendable {
        /// A folder.
        case folder
        /// A symbolic link.
        case link
        /// A regular file.
        case file
        /// A device, a socket or a pipe.
        case other
    }

    /// The component with everything above it, links resolved.
    public var path: FilePath
    /// What it is.
    public var kind: Kind
    /// The owner's user number.
    public var owner: UInt32
    /// The group's number.
    public var group: UInt32 = 0
    /// Permission bits, set-id bits and sticky bit, without the file type.
    public var mode: UInt32

    /// The group or everybody may write. A POSIX ACL shows here as well: the group bits are then its mask, and no entry of it gives more.
    var isWritableByOthers: Bool { mode & 0o022 != 0 }

    /// In a folder with the sticky bit, only the owner of an entry, of the folder, or root may rename or remove the entry.
    var isSticky: Bool { mode & 0o1000 != 0 }
}
