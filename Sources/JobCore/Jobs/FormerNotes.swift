import Glibc
import SystemPackage

/// The notes of earlier versions of the daemon, which kept a file for each subject: read once, and taken away.
struct FormerNotes {
    private(set) var attempts: [(key: AttemptJournal.Key, attempt: AttemptJournal.Unfinished)] = []
    private var files: [FilePath] = []
    private var damaged: [FilePath] = []

    /// - Parameter folder: without it there are none.
    init(in folder: FilePath) throws(StateFileError) {
        for name in try StateFile.names(in: folder) {
            // Their keys were entryUUIDs; with a dot there are the files that were set aside.
            guard let key = AttemptJournal.Key(name), !name.utf8.contains(UInt8(ascii: ".")) else { continue }
            let file = folder.appending(name)
            if let attempt = Self.attempt(in: try StateFile.read(file) ?? []) {
                attempts.append((key, attempt))
                files.append(file)
            } else {
                damaged.append(file)
            }
        }
    }

    /// Takes the files away.
    /// - Returns: what is to be told of those that could not be understood, which are set aside.
    func clear(at seconds: Int) throws(StateFileError) -> [String] {
        for file in files { try StateFile.remove(file) }
        var notices: [String] = []
        for file in damaged {
            let aside = try StateFile.setAside(file, at: seconds)
            notices.append(
                "\(file.printable): tells of no attempt; it was set aside as \(aside.printable), and the attempt counts as lost"
            )
        }
        return notices
    }

    private static func attempt(in contents: [UInt8]) -> AttemptJournal.Unfinished? {
        let text = String(decoding: contents, as: UTF8.self)
        let words = text.split(separator: " ")
        // Written anew and compared, so that nothing is accepted that was not written so.
        guard words.count == 4, let job = UInt64(words[1]), let attempt = Int(words[3].dropLast()),
            text == "job \(job) attempt \(attempt)\n"
        else { return nil }
        return AttemptJournal.Unfinished(job: JobID(job), number: attempt)
    }
}
