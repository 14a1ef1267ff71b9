import Glibc
import SystemPackage

/// The mounts of this process as the kernel lists them (proc(5), `/proc/self/mountinfo`).
struct MountTable: Hashable, Sendable {
    struct Mount: Hashable, Sendable {
        /// The kernel gives each mount of the machine a number of its own, whatever namespace it is in.
        var number = ""
        /// `major:minor`, as in the list.
        var device: String
        var point: FilePath
        var type: String
        /// Those of the mount and of the file system.
        var options: Set<String> = []
    }

    let mounts: [Mount]

    /// - Parameters:
    ///   - text: the list; a line that is not as proc(5) says is left out.
    ///   - path: only mounts above, at and below it are needed. There may be one for each account, and taking all lines apart takes long.
    init(parsing text: String, near path: FilePath? = nil) {
        let near = path.map { Array($0.string.utf8) }
        mounts = text.split(separator: "\n").compactMap { line in
            if let near, !Self.isNear(near, line.utf8) { return nil }
            let fields = line.split(separator: " ")
            guard fields.count > 6, let dash = fields.firstIndex(of: "-"), dash + 1 < fields.endIndex else {
                return nil
            }
            let options = [fields[5]] + fields[dash...].dropFirst(3)
            return Mount(
                number: String(fields[0]), device: String(fields[2]), point: FilePath(Self.decoded(fields[4])),
                type: String(fields[dash + 1]),
                options: Set(options.flatMap { $0.split(separator: ",") }.map(String.init)))
        }
    }

    /// The mount that holds a path: the one with the longest point above it, of those on its device where there are any, and of
    /// several on one point the last, which hides the others.
    /// - Parameters:
    ///   - path: absolute and free of symbolic links.
    ///   - device: `major:minor` of what is there; some file systems show another one than their mount has.
    func mount(holding path: FilePath, device: String) -> Mount? {
        let above = mounts.filter { path.starts(with: $0.point) }
        let same = above.filter { $0.device == device }
        let candidates = same.isEmpty ? above : same
        let depth = candidates.map(\.point.components.count).max()
        return candidates.last { $0.point.components.count == depth }
    }

    /// The mount that holds an opened directory.
    func mount(holding directory: HeldDirectory) throws(HeldDirectory.Failure) -> Mount? {
        try mount(holding: directory.realPath(), device: directory.device())
    }

    /// The mounts below a path.
    func mounts(inside path: FilePath) -> [Mount] { mounts.filter { $0.point != path && $0.point.starts(with: path) } }

    /// Whether the line's mount may lie above, at or below the path; a name with characters that the list writes otherwise may always.
    private static func isNear(_ path: [UInt8], _ line: Substring.UTF8View) -> Bool {
        let blank = UInt8(ascii: " ")
        var rest = line[...]
        for _ in 0..<4 {
            guard let end = rest.firstIndex(of: blank) else { return false }
            rest = rest[rest.index(after: end)...]
        }
        for byte in path {
            guard let next = rest.popFirst(), next != blank else { return true }
            if next != byte { return next == UInt8(ascii: "\\") || isEscaped(byte) }
        }
        return true
    }

    private static func isEscaped(_ byte: UInt8) -> Bool { byte <= UInt8(ascii: " ") || byte == UInt8(ascii: "\\") }

    /// Blanks, TABs, newlines and backslashes stand there as `\040` and the like.
    private static func decoded(_ field: Substring) -> String {
        var bytes: [UInt8] = []
        var rest = Array(field.utf8)[...]
        while let byte = rest.popFirst() {
            let digits = rest.prefix(3)
            if byte == UInt8(ascii: "\\"), digits.count == 3,
                let value = UInt8(String(decoding: digits, as: UTF8.self), radix: 8)
            {
                bytes.append(value)
                rest = rest.dropFirst(3)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// One mount whose name is no text must not hide the others: an account may mount something of its own (FUSE).
    /// - Parameter path: only mounts above, at and below it are needed; nil: all.
    static func current(
        near path: FilePath? = nil, list: FilePath = "/proc/self/mountinfo"
    ) throws(HeldDirectory.Failure) -> MountTable {
        do {
            return MountTable(parsing: String(decoding: try SmallFile.bytes(at: list), as: UTF8.self), near: path)
        } catch {
            throw HeldDirectory.Failure(operation: "read", path: list, cause: error as? Errno ?? .ioError)
        }
    }
}

extension HeldDirectory {
    /// Where the directory really is, without symbolic links.
    func realPath() throws(Failure) -> FilePath {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = readlink("/proc/self/fd/\(descriptor)", &buffer, buffer.count)
        guard count > 0, count < buffer.count else {
            throw Failure(operation: "find the real place of", path: path, cause: Errno(rawValue: errno))
        }
        return FilePath(String(decoding: buffer.prefix(count), as: UTF8.self))
    }

    /// `major:minor` of the file system it lies on.
    func device() throws(Failure) -> String {
        let device = UInt64(try status().st_dev)
        let major = ((device >> 8) & 0xfff) | ((device >> 32) & ~0xfff)
        let minor = (device & 0xff) | ((device >> 12) & ~0xff)
        return "\(major):\(minor & 0xffff_ffff)"
    }
}
