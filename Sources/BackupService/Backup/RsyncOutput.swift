import Glibc

/// What rsync said while it copied, as far as it tells why something was not copied.
///
/// It is given every byte of the output in pieces of any size. Names of files are the customer's: rsync escapes line feeds in them, and
/// the reason follows the name, so neither the beginning nor the end of a line can be forged. Of each kind a few lines are kept and all
/// are counted.
struct RsyncOutput: Sendable {
    /// Lines of one kind.
    struct Lines: Hashable, Sendable {
        private(set) var count = 0
        private(set) var first: [String] = []
        /// The system's error numbers of all lines.
        private(set) var numbers: Set<Int32> = []

        fileprivate mutating func add(_ line: String, _ number: Int32?) {
            count += 1
            if first.count < RsyncOutput.mostKept { first.append(RsyncOutput.shortened(line)) }
            if let number { numbers.insert(number) }
        }

        /// The lines kept, and how many more there were.
        var text: String {
            first.joined(separator: "; ") + (count > first.count ? "; and \(count - first.count) more" : "")
        }
    }

    fileprivate static let mostKept = 5
    /// A name has at most 255 bytes and a path 4,096, each byte escaped by five; what is longer is cut.
    private static let longestLine = 24 * 1024
    /// Of a line; what is left out is in its middle, within the name of a file, for the reason follows the name.
    private static let longestKept = 300

    /// Files that went while they were to be copied.
    private(set) var vanished = Lines()
    /// What this account cannot have copied, whenever it is tried: unreadable, too long, of another owner.
    private(set) var uncopied = Lines()
    /// Everything else that rsync calls an error: disk, quota, memory, and what is not known.
    private(set) var errors = Lines()
    /// Names in what was copied, by rsync's own count at the end of each run (`--stats`); nil: it told of none.
    private(set) var names: UInt64?

    private var line: [UInt8] = []

    /// Takes the next bytes.
    mutating func read(_ bytes: some Sequence<UInt8>) {
        for byte in bytes {
            if byte == UInt8(ascii: "\n") {
                end()
            } else if line.count < Self.longestLine {
                line.append(byte)
            }
        }
    }

    /// Takes a last line that has no line feed.
    mutating func end() {
        defer { line.removeAll(keepingCapacity: true) }
        guard !line.isEmpty else { return }
        let text = String(decoding: line, as: UTF8.self)
        let number = Self.errno(of: text)
        switch Self.kind(of: text) {
        case .vanished: vanished.add(text, number)
        case .uncopied: uncopied.add(text, number)
        case .error: errors.add(text, number)
        case .other: if let count = Self.count(in: text) { names = (names ?? 0) &+ count }
        }
    }

    /// How many names a run has seen, from the line that tells it.
    private static func count(in line: String) -> UInt64? {
        let label = "Number of files: "
        guard line.hasPrefix(label) else { return nil }
        return UInt64(line.dropFirst(label.count).prefix { $0 != " " })
    }

    /// Whether the disk was full, or a quota used up.
    var hasLackedRoom: Bool { !errors.numbers.isDisjoint(with: [ENOSPC, EDQUOT]) }

    private static func shortened(_ line: String) -> String {
        guard line.count > longestKept else { return line }
        return "\(line.prefix(longestKept / 2))…\(line.suffix(longestKept / 2))"
    }

    enum Kind { case vanished, uncopied, error, other }

    static func kind(of line: String) -> Kind {
        if line.hasPrefix("file has vanished: ") || line.hasPrefix("directory has vanished: ") { return .vanished }
        if ["ERROR: ", "could not make way for "].contains(where: line.hasPrefix) { return .error }
        // A path that is longer than PATH_MAX as a whole.
        let tooLong = [
            "filename overflows max-path len by ", "cannot send long-named file ", "skipping overly long name: ",
        ]
        if tooLong.contains(where: line.hasPrefix) { return .uncopied }
        guard line.hasPrefix("rsync: ") else { return .other }
        guard let number = errno(of: line) else { return .error }
        switch number {
        case ENOENT, EACCES, ENAMETOOLONG, ELOOP: return .uncopied
        // EINVAL: an unknown owner.
        case EPERM where isOwnership(line), EINVAL where isOwnership(line): return .uncopied
        default: return .error
        }
    }

    /// The number in parentheses at the line's end, as rsync adds it to each reason of the system's.
    private static func errno(of line: String) -> Int32? {
        guard line.hasSuffix(")"), let open = line.lastIndex(of: "(") else { return nil }
        return Int32(line[line.index(after: open)...].dropLast())
    }

    /// Whether rsync tried to give a file to somebody, or to make a device, which only root may.
    private static func isOwnership(_ line: String) -> Bool {
        // `rsync: [receiver] chown "name" failed: …`, where the operation comes before the name's quote.
        guard let quote = line.firstIndex(of: "\"") else { return false }
        let operation = line[..<quote]
        return ["chown ", "chgrp ", "lchown ", "mknod "].contains { operation.hasSuffix($0) }
    }
}
