import Glibc
import SystemPackage

/// The mounts of this process as the kernel lists them (proc(5), `/proc/self/mountinfo`).
struct MountTable: Hashable, Sendable {
    struct Mount: Hashable, Sendable {
        /// Unique on the machine, in all mount namespaces.
        var number = ""
        /// `major:minor`.
        var device: String
        var point: FilePath
        var type: String
        /// The options of the mount and of the file system.
        var options: Set<String> = []
    }

    let mounts: [Mount]

    /// - Parameters:
    ///   - text: the list; malformed lines are ignored.
    ///   - path: only mounts above, at and below it are parsed, since there may be one mount for each account; nil: all.
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

    /// The mount that holds a path: the one with the longest point above it; of several at one point the last, which hides the others.
    /// - Parameters:
    ///   - path: absolute, without symbolic links.
    ///   - device: `major:minor` of the file; mounts of that device are preferred. Some file systems show another one than their mount.
    func mount(holding path: FilePath, device: String) -> Mount? {
        let above = mounts.filter { path.starts(with: $0.point) }
        let same = above.filter { $0.device == device }
        let candidates = same.isEmpty ? above : same
        let depth = candidates.map(\.point.components.count).max()
        return candidates.last { $0.point.components.count == depth }
    }

    func mount(holding directory: HeldDirectory) throws(HeldDirectory.Failure) -> Mount? {
        try mount(holding: directory.realPath(), device: directory.device())
    }

    func mounts(inside path: FilePath) -> [Mount] { mounts.filter { $0.point != path && $0.point.starts(with: path) } }

    /// Whether the line's mount may be above, at or below the path; true for a path with escaped characters.
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

    /// Blanks, TABs, newlines and backslashes are escaped in octal, such as `\040`.
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

    /// - Parameter path: as in ``init(parsing:near:)``.
    static func current(
        near path: FilePath? = nil, list: FilePath = "/proc/self/mountinfo"
    ) throws(HeldDirectory.Failure) -> MountTable {
        do {
            // Not UTF-8 is possible: an account may mount something of its own (FUSE).
            return MountTable(parsing: String(decoding: try FileDescriptor.bytes(at: list), as: UTF8.self), near: path)
        } catch {
            throw HeldDirectory.Failure(operation: "read", path: list, cause: error)
        }
    }
}

extension HeldDirectory {
    /// `major:minor` of its file system.
    fileprivate func device() throws(Failure) -> String {
        let device = UInt64(try status().st_dev)
        let major = ((device >> 8) & 0xfff) | ((device >> 32) & ~0xfff)
        let minor = (device & 0xff) | ((device >> 12) & ~0xff)
        return "\(major):\(minor & 0xffff_ffff)"
    }
}
