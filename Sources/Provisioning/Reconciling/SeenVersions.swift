import DequeModule
import LDAP
import EventLoop
import Glibc
public import JobCore
import Synchronization
public import SystemPackage

/// The newest version of each entry that this daemon has written or read. A server that returns an older one lags behind, or was restored from a
/// backup, and nothing is decided from such an entry. The number of remembered entries is bounded: the oldest line is overwritten.
///
/// They are also kept in a file with a line of fixed length for each, since the daemon may connect to another server after a restart. The file is
/// not flushed to the disk: it survives the process, but not a crash of the machine. Losing it costs only this protection.
public struct SeenVersions: Sendable {
    /// A warning for the log; nil when the file can be used.
    public private(set) var notice: String?
    private var newest: [EntryUUID: (csn: AttributeValue, line: Int)] = [:]
    /// The entry of each line; the oldest is overwritten.
    private var lines: [EntryUUID?]
    private var next = 0
    private let file: TableFile?

    /// - Parameters:
    ///   - file: in a directory that exists; nil: versions are kept in memory only.
    ///   - capacity: entries; at least 1.
    ///   - warn: called with a warning for the log when the file cannot be written any more.
    public init(
        file: FilePath? = nil, capacity: Int = 4_096, now: Timestamp = SystemWallClock().now,
        warn: @escaping @Sendable (String) -> Void = { _ in }
    ) {
        lines = Array(repeating: nil, count: capacity)
        guard let file else {
            self.file = nil
            return
        }
        do throws(Errno) {
            let (table, contents) = try TableFile.open(file, lines: capacity) { error in
                warn(
                    "\(file): \(error); check the disk: until it can be written, a restart forgets which versions of entries were seen"
                )
            }
            self.file = table
            for (line, text) in contents.enumerated() {
                guard let (uuid, csn) = Self.read(text), newest[uuid] == nil, !Self.isAhead(csn, now) else { continue }
                lines[line] = uuid
                newest[uuid] = (csn, line)
            }
            let oldest = newest.values.min { EntryVersion.isOlder($0.csn, than: $1.csn) }
            next = lines.firstIndex(of: nil) ?? oldest?.line ?? 0
        } catch {
            self.file = nil
            notice =
                "\(file): \(error); make it writable and restart the daemon: until then a restart forgets which versions of entries it has seen"
        }
    }

    /// The newest version of an entry; nil: none is known.
    func version(of uuid: EntryUUID, now: Timestamp) -> AttributeValue? {
        newest[uuid].flatMap { Self.isAhead($0.csn, now) ? nil : $0.csn }
    }

    /// Whether a version was made by a clock that was ahead. It is ignored, since the entry would wait until that time.
    private static func isAhead(_ csn: AttributeValue, _ now: Timestamp) -> Bool {
        EntryVersion.isLater(csn, than: now + largestLead)
    }

    private static let largestLead = Duration.seconds(3_600)

    mutating func insert(_ csn: AttributeValue, of uuid: EntryUUID, now: Timestamp) {
        guard EntryVersion.isComparable(csn), !Self.isAhead(csn, now) else { return }
        if let known = version(of: uuid, now: now), !EntryVersion.isOlder(known, than: csn) { return }
        let line = newest[uuid]?.line ?? newLine(for: uuid)
        newest[uuid] = (csn, line)
        file?.write("\(uuid) \(csn)", toLine: line)
    }

    mutating func forget(_ uuid: EntryUUID) {
        guard let known = newest.removeValue(forKey: uuid) else { return }
        lines[known.line] = nil
        file?.write("", toLine: known.line)
    }

    /// Returns when everything is written.
    func flush() async { await file?.flush() }

    private mutating func newLine(for uuid: EntryUUID) -> Int {
        defer { next = (next + 1) % lines.count }
        if let former = lines[next] { newest[former] = nil }
        lines[next] = uuid
        return next
    }

    private static func read(_ text: String) -> (EntryUUID, AttributeValue)? {
        let words = text.split(separator: " ")
        guard words.count == 2, let uuid = EntryUUID(text: String(words[0])) else { return nil }
        let csn = AttributeValue(String(words[1]))
        return EntryVersion.isComparable(csn) ? (uuid, csn) : nil
    }
}

/// A file of lines of fixed length, which are overwritten in place on a worker thread.
private final class TableFile: Sendable {
    private struct Waiting {
        /// The lines to be written, by their numbers.
        var lines: [Int: String] = [:]
        /// A task to write them exists.
        var isScheduled = false
    }

    /// An entryUUID, a blank, an entryCSN.
    private static let length = 36 + 1 + 40
    /// The delay before lines are written, so that many are written together.
    private static let writeDelay = Duration.milliseconds(100)
    private let file: FileDescriptor
    private let waiting = Mutex(Waiting())
    /// Held while lines are written, so that the newest comes last. Whether the last attempt failed.
    private let writing = Mutex(false)
    /// Called with the first of several failures to write.
    private let failed: @Sendable (Errno) -> Void

    private init(_ file: FileDescriptor, failed: @escaping @Sendable (Errno) -> Void) {
        (self.file, self.failed) = (file, failed)
    }

    deinit { try? file.close() }

    /// Opens the file, or makes it; one of another size is emptied.
    static func open(
        _ path: FilePath, lines count: Int, failed: @escaping @Sendable (Errno) -> Void
    ) throws(Errno) -> (TableFile, [String]) {
        do {
            let file = try FileDescriptor.open(
                path, .readWrite, options: [.create, .closeOnExec, .noFollow], permissions: [.ownerReadWrite])
            let table = TableFile(file, failed: failed)
            let size = count * (length + 1)
            let contents = try [UInt8](unsafeUninitializedCapacity: size) { buffer, used in
                used = try file.read(fromAbsoluteOffset: 0, into: UnsafeMutableRawBufferPointer(buffer))
            }
            guard contents.count == size else {
                try file.resize(to: 0)
                // Written completely, so that a full disk is found here and not later.
                try file.writeAll(toAbsoluteOffset: 0, String(repeating: line(""), count: count).utf8)
                return (table, [])
            }
            let lines = stride(from: 0, to: size, by: length + 1).map { start in
                String(decoding: contents[start..<start + length], as: UTF8.self)
            }
            return (table, lines)
        } catch {
            throw error as? Errno ?? .ioError
        }
    }

    func write(_ text: String, toLine line: Int) {
        let isFirst = waiting.withLock { waiting in
            waiting.lines[line] = text
            defer { waiting.isScheduled = true }
            return !waiting.isScheduled
        }
        guard isFirst else { return }
        Task {
            try? await Task.sleep(for: Self.writeDelay)
            await flush()
        }
    }

    func flush() async { await BlockingWork.run { self.writeAll() } }

    /// The space is allocated already. After an error of the disk, lines are written with the next ones.
    private func writeAll() {
        writing.withLock { isFailing in
            var lines = waiting.withLock { waiting in
                defer { waiting = Waiting() }
                return waiting.lines
            }
            var failure: Errno?
            for (line, text) in lines {
                do {
                    try file.writeAll(toAbsoluteOffset: Int64(line * (Self.length + 1)), Self.line(text).utf8)
                    lines[line] = nil
                } catch { failure = error as? Errno ?? .ioError }
            }
            waiting.withLock { $0.lines.merge(lines) { newer, _ in newer } }
            if let failure, !isFailing { failed(failure) }
            isFailing = failure != nil
        }
    }

    private static func line(_ text: String) -> String {
        text + String(repeating: " ", count: max(0, length - text.utf8.count)) + "\n"
    }
}

/// Compares versions of an entry by their entryCSNs, as OpenLDAP orders them: by time, counter, server and modification
/// (draft-ietf-ldup-model-09, section 4.3). Other forms of entryCSN cannot be compared.
enum EntryVersion {
    /// Whether one version is older than another; false when one of them cannot be compared.
    static func isOlder(_ csn: AttributeValue, than other: AttributeValue) -> Bool {
        isComparable(csn) && isComparable(other) && csn.bytes.lexicographicallyPrecedes(other.bytes)
    }

    /// Whether a comparable version was made after a time, by the clock of the server that made it.
    static func isLater(_ csn: AttributeValue, than time: Timestamp) -> Bool {
        let digits = time.text.utf8.filter { $0 != UInt8(ascii: "T") }
        return digits.lexicographicallyPrecedes(csn.bytes)
    }

    /// Whether a version was made so recently that another server may not have it yet.
    static func isRecent(_ csn: AttributeValue, now: Timestamp) -> Bool {
        isComparable(csn) && isLater(csn, than: now + (.zero - longestLag))
    }
    private static let longestLag = Duration.seconds(60)

    /// `20261128120000.123456Z#000000#001#000000`
    static func isComparable(_ csn: AttributeValue) -> Bool {
        csn.bytes.count == 40
            && csn.bytes.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"), UInt8(ascii: "#"),
                    UInt8(ascii: "."), UInt8(ascii: "Z"):
                    true
                default: false
                }
            }
    }
}

/// The entryCSNs of the daemon's last writes, to tell notifications of own writes from those of others' changes.
struct OwnWrites: Sendable {
    private var order: Deque<AttributeValue> = []
    private var known: Set<AttributeValue> = []
    private static let capacity = 4_096

    mutating func insert(_ csn: AttributeValue) {
        guard known.insert(csn).inserted else { return }
        order.append(csn)
        if order.count > Self.capacity { known.remove(order.removeFirst()) }
    }

    func contains(_ csn: AttributeValue?) -> Bool { csn.map(known.contains) ?? false }
}
