import Foundation
import JobCore
import SystemPackage
import Testing

@Suite struct AttemptJournalTests {
    let folder: ScriptFolder
    let key: AttemptJournal.Key
    init() throws {
        folder = try ScriptFolder()
        key = try #require(AttemptJournal.Key("0b0f47b6-1d5f-103e-8a9c-3d0a1c7a5c11"))
    }

    private var names: [String] {
        get throws { try FileManager.default.contentsOfDirectory(atPath: folder.path.string).sorted() }
    }

    @Test("an attempt that began and did not end is found by the next start, with job and number")
    func unfinished() throws {
        try AttemptJournal(folder: folder.path).begin(key, job: JobID(17), attempt: 3)
        #expect(try AttemptJournal(folder: folder.path).unfinished(key) == .attempt(job: JobID(17), number: 3))
        #expect(try names == [key.description])
    }

    @Test("an attempt that ended leaves nothing, and to end twice or what never began does no harm")
    func ended() throws {
        let journal = AttemptJournal(folder: folder.path)
        #expect(try journal.unfinished(key) == nil)
        try journal.end(key)
        try journal.begin(key, job: JobID(1), attempt: 1)
        try journal.end(key)
        try journal.end(key)
        #expect(try journal.unfinished(key) == nil)
        #expect(try names == [])
    }

    @Test("the next attempt takes the place of the one before, and subjects do not disturb one another")
    func replaces() throws {
        let journal = AttemptJournal(folder: folder.path)
        let other = try #require(AttemptJournal.Key("other"))
        try journal.begin(key, job: JobID(1), attempt: 1)
        try journal.begin(other, job: JobID(2), attempt: 1)
        try journal.begin(key, job: JobID(1), attempt: 2)
        try journal.end(other)
        #expect(try journal.unfinished(key) == .attempt(job: JobID(1), number: 2))
        #expect(try journal.unfinished(other) == nil)
    }

    @Test(
        "a damaged note counts as lost and says so, and the next attempt mends it",
        arguments: ["", "job 1 attempt 1", "job x attempt 1\n", "job 1 attempt 01\n", "job 1 attempt 1\n\n", "\u{1}"])
    func damaged(text: String) throws {
        let journal = AttemptJournal(folder: folder.path)
        let file = folder.path.appending(key.description)
        try Data(text.utf8).write(to: URL(filePath: file.string))
        guard case .damaged(let message) = try journal.unfinished(key) else {
            Issue.record("taken for whole: \(text)")
            return
        }
        #expect(
            message.contains(file.string) && message.contains("lost") && !message.contains("\u{1}")
                && !message.contains("\n"))
        try journal.begin(key, job: JobID(5), attempt: 1)
        #expect(try journal.unfinished(key) == .attempt(job: JobID(5), number: 1))
    }

    @Test("a draft left by a crash while writing is no note")
    func draft() throws {
        try Data("job".utf8).write(to: URL(filePath: folder.path.appending(".\(key).new").string))
        let journal = AttemptJournal(folder: folder.path)
        #expect(try journal.unfinished(key) == nil)
        try journal.begin(key, job: JobID(5), attempt: 1)
        #expect(try names == [key.description])
    }

    @Test(
        "only plain names are keys",
        arguments: [
            "", ".", "..", ".hidden", "a/b", "../x", "a b", "ä", "a\0b", "-a", String(repeating: "x", count: 201),
        ])
    func keys(text: String) {
        #expect(AttemptJournal.Key(text) == nil)
    }

    @Test("a folder that is not there is an error with path and cure")
    func noFolder() throws {
        let journal = AttemptJournal(folder: folder.path.appending("gone"))
        #expect(try journal.unfinished(key) == nil)
        let error = #expect(throws: StateFileError.self) { try journal.begin(key, job: JobID(1), attempt: 1) }
        #expect(error?.errno == .noSuchFileOrDirectory)
        #expect(error?.cure.hasPrefix("create the folder: mkdir -p ") == true)
    }
}
