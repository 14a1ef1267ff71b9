import Foundation
import SystemPackage
import Testing

@testable import JobCore

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
    private var file: FilePath { folder.path.appending(AttemptJournal.fileName) }
    private var contents: String {
        get throws { String(decoding: try Data(contentsOf: URL(filePath: file.string)), as: UTF8.self) }
    }
    private func write(_ text: String, to path: FilePath) throws {
        try Data(text.utf8).write(to: URL(filePath: path.string))
    }
    private func unfinished(_ job: UInt64, _ number: Int) -> AttemptJournal.Unfinished {
        AttemptJournal.Unfinished(job: JobID(job), number: number)
    }

    @Test("an attempt that began and did not end is found by the next start, with job and number")
    func begun() throws {
        try AttemptJournal(folder: folder.path).begin(key, job: JobID(17), attempt: 3)
        let next = try AttemptJournal(folder: folder.path)
        #expect(next.unfinished(key) == unfinished(17, 3))
        #expect(next.notice == nil)
        #expect(try names == ["_attempts"])
    }

    @Test("an attempt that ended leaves nothing, and to end twice or what never began does no harm")
    func ended() throws {
        let journal = try AttemptJournal(folder: folder.path)
        #expect(journal.unfinished(key) == nil)
        try journal.end(key)
        try journal.begin(key, job: JobID(1), attempt: 1)
        try journal.end(key)
        try journal.end(key)
        #expect(journal.unfinished(key) == nil)
        let next = try AttemptJournal(folder: folder.path)
        #expect(next.unfinished(key) == nil && next.notice == nil)
        #expect(try contents.isEmpty)
    }

    @Test("the next attempt takes the place of the one before, and subjects do not disturb one another")
    func replaces() throws {
        let journal = try AttemptJournal(folder: folder.path)
        let other = try #require(AttemptJournal.Key("other"))
        try journal.begin(key, job: JobID(1), attempt: 1)
        try journal.begin(other, job: JobID(2), attempt: 1)
        try journal.begin(key, job: JobID(1), attempt: 2)
        try journal.end(other)
        for journal in [journal, try AttemptJournal(folder: folder.path)] {
            #expect(journal.unfinished(key) == unfinished(1, 2))
            #expect(journal.unfinished(other) == nil)
        }
    }

    @Test("the file grows no longer than the most attempts that were under way at once")
    func bounded() throws {
        let journal = try AttemptJournal(folder: folder.path)
        try journal.begin(key, job: JobID(1), attempt: 1)
        for number in 1...50 {
            let other = try #require(AttemptJournal.Key("other-\(number)"))
            try journal.begin(other, job: JobID(UInt64(number)), attempt: 1)
            try journal.end(other)
        }
        #expect(try contents.utf8.count == 2 * AttemptTable.lineLength)
        #expect(try AttemptJournal(folder: folder.path).unfinished(key) == unfinished(1, 1))
    }

    @Test("attempts that begin and end at the same time are all told apart")
    func concurrent() async throws {
        let journal = try AttemptJournal(folder: folder.path)
        let keys = (0..<40).compactMap { AttemptJournal.Key("subject-\($0)") }
        try await withThrowingTaskGroup { group in
            for (number, key) in keys.enumerated() {
                group.addTask {
                    for attempt in 1...20 {
                        try journal.begin(key, job: JobID(UInt64(number)), attempt: attempt)
                        if attempt < 20 || number.isMultiple(of: 2) { try journal.end(key) }
                    }
                }
            }
            try await group.waitForAll()
        }
        let next = try AttemptJournal(folder: folder.path)
        #expect(next.notice == nil)
        for (number, key) in keys.enumerated() {
            #expect(next.unfinished(key) == (number.isMultiple(of: 2) ? nil : unfinished(UInt64(number), 20)))
        }
    }

    @Test(
        "a damaged line is told and set aside, and the others hold",
        arguments: ["key job 1 attempt 01", "key job x attempt 1", ".x job 1 attempt 1", "key job 1", "\u{1}\n"])
    func damaged(text: String) throws {
        try AttemptJournal(folder: folder.path).begin(key, job: JobID(5), attempt: 2)
        let whole = try contents
        let padding = String(repeating: " ", count: AttemptTable.lineLength - 1 - text.utf8.count)
        try write(text + padding + "\n" + whole, to: file)
        let journal = try AttemptJournal(folder: folder.path)
        #expect(journal.unfinished(key) == unfinished(5, 2))
        let notice = try #require(journal.notice)
        #expect(notice.contains(file.string) && notice.contains("lost"))
        #expect(!notice.contains("\u{1}") && !notice.contains("\n"))
        #expect(try contents == whole)
        #expect(try names.contains { $0.hasPrefix("_attempts.damaged-") })
        #expect(try AttemptJournal(folder: folder.path).notice == nil, "it is told once")
    }

    @Test("a line that the file's end cuts off counts for nothing, and so does what was never written")
    func torn() throws {
        try AttemptJournal(folder: folder.path).begin(key, job: JobID(5), attempt: 2)
        let whole = try contents
        let other = whole.replacing(key.description, with: String(key.description.reversed()))
        let hole = String(repeating: "\0", count: AttemptTable.lineLength)
        try write(hole + whole + other.dropLast(7), to: file)
        let journal = try AttemptJournal(folder: folder.path)
        #expect(journal.notice == nil)
        #expect(journal.unfinished(key) == unfinished(5, 2))
        #expect(try contents == whole)
    }

    @Test("a file that is taken away under the journal is made anew, and what was not in it is lost")
    func takenAway() throws {
        let journal = try AttemptJournal(folder: folder.path)
        let other = try #require(AttemptJournal.Key("other"))
        try journal.begin(key, job: JobID(1), attempt: 1)
        try FileManager.default.removeItem(atPath: file.string)
        try journal.begin(other, job: JobID(2), attempt: 1)
        let next = try AttemptJournal(folder: folder.path)
        #expect(next.notice == nil)
        #expect(next.unfinished(key) == nil)
        #expect(next.unfinished(other) == unfinished(2, 1))
    }

    @Test("the longest key and the greatest numbers have room")
    func longest() throws {
        let key = try #require(AttemptJournal.Key(String(repeating: "x", count: 200)))
        try AttemptJournal(folder: folder.path).begin(key, job: JobID(.max), attempt: .max)
        #expect(try contents.utf8.count == AttemptTable.lineLength)
        #expect(try AttemptJournal(folder: folder.path).unfinished(key) == unfinished(.max, .max))
    }

    @Test("the files of earlier versions, one for each subject, are taken over once")
    func former() throws {
        try write("job 7 attempt 3\n", to: folder.path.appending(key.description))
        for _ in 1...2 {
            let journal = try AttemptJournal(folder: folder.path)
            #expect(journal.notice == nil)
            #expect(journal.unfinished(key) == unfinished(7, 3))
            #expect(try names == ["_attempts"])
        }
        try AttemptJournal(folder: folder.path).end(key)
        #expect(try AttemptJournal(folder: folder.path).unfinished(key) == nil)
    }

    @Test(
        "such a file that is damaged counts as lost, is told and set aside",
        arguments: ["", "job 1 attempt 1", "job x attempt 1\n", "job 1 attempt 01\n", "job 1 attempt 1\n\n", "\u{1}"])
    func formerDamaged(text: String) throws {
        let former = folder.path.appending(key.description)
        try write(text, to: former)
        let journal = try AttemptJournal(folder: folder.path)
        #expect(journal.unfinished(key) == nil)
        #expect(journal.notice?.contains(former.string) == true && journal.notice?.contains("lost") == true)
        #expect(try names.count == 1 && names[0].hasPrefix("\(key).damaged-"))
        #expect(try AttemptJournal(folder: folder.path).notice == nil, "it is told once")
        try journal.begin(key, job: JobID(5), attempt: 1)
        #expect(try AttemptJournal(folder: folder.path).unfinished(key) == unfinished(5, 1))
    }

    @Test(
        "only plain names are keys",
        arguments: [
            "", ".", "..", ".hidden", "a/b", "../x", "a b", "ä", "a\0b", "-a", String(repeating: "x", count: 201),
        ])
    func keys(text: String) {
        #expect(AttemptJournal.Key(text) == nil)
    }

    @Test("a state file takes as much memory as it is long, and no more of it is read than the limit")
    func size() throws {
        try write(String(repeating: "x", count: 2_000), to: file)
        let contents = try #require(try StateFile.read(file, atMost: AttemptTable.largestSize))
        #expect(contents.count == 2_000)
        #expect(contents.capacity < 4_096)
        #expect(try StateFile.read(file, atMost: 100)?.count == 100)
        try write("", to: file)
        #expect(try StateFile.read(file) == [])
    }

    @Test("a folder that is not there is an error with path and cure")
    func noFolder() throws {
        let journal = try AttemptJournal(folder: folder.path.appending("gone"))
        #expect(journal.unfinished(key) == nil)
        let error = #expect(throws: StateFileError.self) { try journal.begin(key, job: JobID(1), attempt: 1) }
        #expect(error?.errno == .noSuchFileOrDirectory)
        #expect(error?.cure.hasPrefix("create the folder: mkdir -p ") == true)
        #expect(journal.unfinished(key) == nil)
    }
}
