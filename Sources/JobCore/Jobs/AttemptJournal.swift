public import SystemPackage

/// Which attempt is running on which subject, in a small file for each: after a crash it tells that an attempt was cut off, and which.
///
/// The files outlast the daemon's own end, however sudden, because what was written belongs to the kernel. They are not flushed to the disk: where the
/// machine itself goes down, the truth stands elsewhere (a subject that is claimed and not finished is taken up again in any case), and all
/// that is lost is the attempt's number. Files are replaced as a whole. There is one attempt at a time on a subject, so nothing is locked.
public struct AttemptJournal: Sendable {
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

    /// What was left of an attempt that did not come to its end.
    public enum Unfinished: Hashable, Sendable {
        /// Which attempt of which job it was.
        case attempt(job: JobID, number: Int)
        /// There was one, and its file cannot be understood: the message says which file and what it holds.
        case damaged(String)
    }

    private let folder: FilePath

    /// - Parameter folder: of the journal alone. It must exist when the first attempt begins.
    public init(folder: FilePath) { self.folder = folder }

    /// Notes that an attempt begins, in the place of whatever was noted before.
    /// - Parameter attempt: its number; the first is 1.
    public func begin(_ key: Key, job: JobID, attempt: Int) throws(StateFileError) {
        try StateFile.replace(file(of: key), with: "job \(job) attempt \(attempt)\n", isDurable: false)
    }

    /// What is noted of a subject.
    /// - Returns: nil when nothing is: its last attempt came to an end.
    public func unfinished(_ key: Key) throws(StateFileError) -> Unfinished? {
        let file = file(of: key)
        guard let contents = try StateFile.read(file) else { return nil }
        let text = String(decoding: contents, as: UTF8.self)
        let words = text.split(separator: " ")
        // Written anew and compared, so that nothing is accepted that was not written by `begin`.
        if words.count == 4, let job = UInt64(words[1]), let attempt = Int(words[3].dropLast()),
            text == "job \(job) attempt \(attempt)\n"
        {
            return .attempt(job: JobID(job), number: attempt)
        }
        let beginning = String(text.prefix(80)).escapingControlCharacters
        return .damaged(
            "\(file.printable): tells of an attempt that was cut off, and not of which (it holds \"\(beginning)\"); it counts as lost"
        )
    }

    /// Notes that the attempt has ended, however it did. Without a note it does nothing.
    public func end(_ key: Key) throws(StateFileError) {
        try StateFile.remove(file(of: key))
    }

    private func file(of key: Key) -> FilePath { folder.appending(key.description) }
}
