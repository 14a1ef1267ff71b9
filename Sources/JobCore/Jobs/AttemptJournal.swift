import Glibc
import Synchronization
public import SystemPackage

/// Which attempt is running on which subject, in one small file: after a crash it tells that an attempt was cut off, and which.
///
/// The file is a table of lines of one length, a line for each attempt that is under way; a blank one is free for the next. So to begin and
/// to end costs one write of a line each, and the file grows no longer than the most that were ever under way at once.
///
/// It outlasts the daemon's own end, however sudden, because what was written belongs to the kernel. It is not flushed to the disk: where the
/// machine itself goes down, the truth stands elsewhere (a subject that is claimed and not finished is taken up again in any case), and all
/// that is lost is the attempt's number. There is one attempt at a time on a subject, and one daemon for a folder.
///
/// A line that is cut off by the file's end was never written whole, and counts for nothing. Where a line cannot be understood, the file is
/// set aside, and what the others tell goes on. Earlier versions kept a file for each subject; those are taken over.
public final class AttemptJournal: Sendable {
    /// The name of a subject, fit to be a file's name: an entryUUID, for example.
    public struct Key: Hashable, Sendable, CustomStringConvertible {
        /// The name itself.
        public let description: String

        /// - Returns: nil unless there are 1 to 200 letters, digits, `-`, `_` and `.` (ASCII) and the first is a letter or digit.
        public init?(_ text: String) {
            func isPlain(_ byte: UInt8) -> Bool {
                (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
            }
            guard let first = text.utf8.first, isPlain(first), text.utf8.count <= 200,
                text.utf8.allSatisfy({ isPlain($0) || "-_.".utf8.contains($0) })
            else { return nil }
            description = text
        }
    }

    /// An attempt that did not come to its end.
    public struct Unfinished: Hashable, Sendable {
        /// Whose attempt it was.
        public let job: JobID
        /// Which one of the job's; the first is 1.
        public let number: Int
    }

    /// What is to be told to the operator: nil unless something damaged was set aside.
    public let notice: String?

    /// Begins with a character that no key begins with, for in the same folder lay the files that bore keys as their names.
    static let fileName: FilePath.Component = "_attempts"

    private let file: FilePath
    private let table: Mutex<AttemptTable>

    /// Reads what an earlier run has left, and writes it anew where there is more than that in the file.
    /// - Parameter folder: of the journal alone. It must exist when the first attempt begins.
    public convenience init(folder: FilePath) throws(StateFileError) {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        try self.init(folder: folder, now: now.tv_sec)
    }

    private init(folder: FilePath, now: Int) throws(StateFileError) {
        file = folder.appending(Self.fileName)
        let contents = try StateFile.read(file, atMost: AttemptTable.largestSize) ?? []
        var (table, damaged) = AttemptTable.reading(contents)
        var notices: [String] = []
        if let line = damaged.first {
            let aside = try StateFile.setAside(file, at: now)
            notices.append(
                "\(file.printable): has lines that tell of no attempt (the first is \"\(line)\"); it was set aside as \(aside.printable), and the attempts they told of count as lost"
            )
        }
        let former = try FormerNotes(in: folder)
        for (key, attempt) in former.attempts where table[key] == nil { table.note(attempt, of: key) }
        let packed = table.packed()
        // Before the former files go: should the daemon end between, they are taken over once more.
        if !packed.utf8.elementsEqual(contents) { try StateFile.replace(file, with: packed, isDurable: false) }
        notices += try former.clear(at: now)
        notice = notices.isEmpty ? nil : notices.joined(separator: "; ")
        self.table = Mutex(table)
    }

    /// Notes that an attempt begins, in the place of whatever was noted before.
    /// - Parameter attempt: its number; the first is 1.
    public func begin(_ key: Key, job: JobID, attempt: Int) throws(StateFileError) {
        let attempt = Unfinished(job: job, number: attempt)
        let (place, isNew) = table.withLock { $0.reserve(key) }
        do {
            try write(AttemptTable.line(attempt, of: key), at: place)
        } catch {
            if isNew { table.withLock { $0.free(key) } }
            throw error
        }
        table.withLock { $0.note(attempt, of: key) }
    }

    /// What is noted of a subject.
    /// - Returns: nil when nothing is: its last attempt came to an end.
    public func unfinished(_ key: Key) -> Unfinished? { table.withLock { $0[key] } }

    /// Notes that the attempt has ended, however it did. Without a note it does nothing.
    public func end(_ key: Key) throws(StateFileError) {
        guard let place = table.withLock({ $0.place(of: key) }) else { return }
        try write(AttemptTable.blank, at: place)
        table.withLock { $0.free(key) }
    }

    private func write(_ line: [UInt8], at place: Int) throws(StateFileError) {
        do {
            // By its name each time: in a file that somebody has taken away nothing would be found.
            let descriptor = try FileDescriptor.open(
                file, .writeOnly, options: [.create, .closeOnExec, .noFollow],
                permissions: [.ownerReadWrite, .groupRead, .otherRead])
            _ = try descriptor.closeAfter {
                try descriptor.writeAll(toAbsoluteOffset: Int64(place * AttemptTable.lineLength), line)
            }
        } catch {
            throw StateFileError("write", file, error)
        }
    }
}
