import Foundation
import SystemPackage
import TestSupport
import Testing

@testable import JobCore

@Suite struct HistoryDamageTests {
    /// Something that is at the history's path, and what the notice says of it.
    struct Damage: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var words: String
        var needsRoot = false
        /// SQLite can still read it, and so may write its log back into it.
        var isReadable = false
        /// Where a history was before.
        var make: @Sendable (HistoryBench) throws -> Void
    }

    static let damages = [
        Damage(testDescription: "garbage", words: "not a database") { bench in
            var random = SeededGenerator(seed: 1)
            try bench.write((0..<10_000).map { _ in UInt8.random(in: 0...255, using: &random) }, to: bench.file)
        },
        Damage(testDescription: "a text", words: "not a database") { try $0.write("hello\n".utf8, to: $0.file) },
        Damage(testDescription: "a truncated history", words: "malformed") { bench in
            let size = try #require(try FileManager.default.attributesOfItem(atPath: bench.file.string)[.size] as? Int)
            #expect(truncate(bench.file.string, size / 2) == 0)
        },
        Damage(testDescription: "a history with a damaged page", words: "malformed") { bench in
            let handle = try FileHandle(forUpdating: URL(filePath: bench.file.string))
            try handle.seek(toOffset: 200)
            try handle.write(contentsOf: Data(repeating: 0xA5, count: 3_000))
            try handle.close()
        },
        Damage(testDescription: "another program's database", words: "another program's") { bench in
            try FileManager.default.removeItem(atPath: bench.file.string)
            try SQLite(bench.file.string).execute("CREATE TABLE recipe (name TEXT)")
        },
        Damage(
            testDescription: "a history without its tables", words: "no such table", isReadable: true
        ) { bench in
            try SQLite(bench.file.string).execute("DROP TABLE job")
        },
        Damage(testDescription: "a directory", words: "directory") { bench in
            try FileManager.default.removeItem(atPath: bench.file.string)
            try FileManager.default.createDirectory(atPath: bench.file.string, withIntermediateDirectories: false)
        },
        Damage(testDescription: "a symbolic link", words: "symbolic link") { bench in
            try FileManager.default.removeItem(atPath: bench.file.string)
            try bench.write("theirs".utf8, to: bench.directory.appending("theirs"))
            #expect(symlink("theirs", bench.file.string) == 0)
        },
        Damage(testDescription: "a named pipe", words: "no plain file") { bench in
            try FileManager.default.removeItem(atPath: bench.file.string)
            #expect(mkfifo(bench.file.string, 0o600) == 0)
        },
        Damage(testDescription: "a directory in the place of the log", words: "unable to open") { bench in
            for suffix in ["-wal", "-shm"] { #expect(unlink(bench.file.string + suffix) == 0 || errno == ENOENT) }
            try FileManager.default.createDirectory(
                atPath: bench.file.string + "-wal", withIntermediateDirectories: false)
        },
        Damage(testDescription: "a stranger's file", words: "belongs to user 65534", needsRoot: true) { bench in
            #expect(chown(bench.file.string, 65_534, 65_534) == 0)
        },
    ]

    @Test(
        "a file that cannot be the history is set aside complete with one notice, and a new one is created",
        arguments: damages)
    func setAside(_ damage: Damage) async throws {
        guard !damage.needsRoot || geteuid() == 0 else {
            print("not root: \(damage) is not tried")
            return
        }
        let bench = try HistoryBench()
        let old = bench.history()
        for number in 1...300 { old.record(whole: Story(number)) }
        await old.close()
        #expect(bench.notices.isEmpty)
        try damage.make(bench)
        let contents = try? Data(contentsOf: URL(filePath: bench.file.string))

        let history = bench.history()
        history.record(whole: Story(1_000))
        #expect(try await history.jobs().map(\.id.number) == [1_000])
        #expect(try await history.job(JobID(1_000))?.steps.count == 1)
        let notice = try #require(bench.complaints.first)
        #expect(bench.complaints.count == 1, "\(bench.complaints)")
        #expect(notice.text.contains(damage.words), "\(notice.text)")
        let aside = try #require(try bench.aside().first { !$0.hasSuffix("-wal") && !$0.hasSuffix("-shm") })
        #expect(notice.text.contains(aside))
        if !damage.isReadable {
            #expect((try? Data(contentsOf: URL(filePath: bench.directory.appending(aside).string))) == contents)
        }
        await history.close()

        let again = bench.history()
        #expect(try await again.jobs().map(\.id.number) == [1_000])
        #expect(bench.complaints.count == 1)
        await again.close()
    }

    @Test("damage that is found during jobs costs past jobs only: open jobs are in the new history")
    func inOperation() async throws {
        let bench = try HistoryBench()
        let history = bench.history()
        // One that runs would keep the log from being emptied, which hides the damage.
        await history.stopCheckpoints()
        let open = Story(9_000)
        history.record(open.began(2))
        for number in 1...500 { history.record(whole: Story(number)) }
        await history.flush()
        _ = try await history.withDatabase { try $0.execute("PRAGMA wal_checkpoint(TRUNCATE)") }
        let handle = try FileHandle(forUpdating: URL(filePath: bench.file.string))
        let size = try handle.seekToEnd()
        try handle.seek(toOffset: 4_096)
        try handle.write(contentsOf: Data(repeating: 0xA5, count: Int(size) - 4_096))
        try handle.close()

        // The first of a new reader and the writer finds it.
        var last = 600
        try await eventually("the damaged file is set aside") {
            last += 1
            history.record(whole: Story(last))
            do { _ = try await history.jobs(matching: JobFilter(limit: .max)) } catch {}
            return try !bench.aside().isEmpty
        }
        history.record("still here", of: open)
        history.record(open.began(2).ended())
        let job = try #require(try await history.job(open.job.id))
        #expect(job.result == .success)
        #expect(job.attempts.map(\.number) == [2])
        #expect(job.attempts.map(\.fate) == [.ended])
        #expect(job.report.map(\.text) == ["still here"])
        #expect(bench.complaints.count == 1, "\(bench.complaints)")
        await history.close()
    }

    @Test("a history that is removed while it is in use is created again")
    func removed() async throws {
        let bench = try HistoryBench()
        let history = bench.history()
        let open = Story(1).began()
        history.record(open)
        await history.flush()
        for name in try bench.files() { #expect(unlink(bench.directory.appending(name).string) == 0) }
        history.record(open.ended())
        #expect(try await history.job(open.job.id)?.result == .success)
        #expect(bench.complaints.count == 1, "\(bench.complaints)")
        #expect(try bench.files().contains("history.sqlite"))
        await history.close()
    }

    @Test(
        "on a full disk jobs wait to be recorded, with one notice before and one after; additions to reports meanwhile are missing"
    )
    func fullDisk() async throws {
        let bench = try HistoryBench()
        let history = bench.history()
        let early = Story(1).began()
        history.record(early)
        await history.flush()
        _ = try await history.withDatabase { database in
            let pages = try database.integer("PRAGMA page_count") ?? 0
            try database.execute("PRAGMA max_page_count = \(pages + 5)")
        }
        for number in 2...500 { history.record(whole: Story(number)) }
        history.record(early.ended())
        await history.flush()
        history.record(whole: Story(501))
        await history.flush()
        #expect(bench.complaints.count == 1, "\(bench.complaints)")
        #expect(bench.complaints.first?.text.contains("make room") == true)
        #expect(try await history.job(early.job.id)?.ended == nil)

        _ = try await history.withDatabase { try $0.execute("PRAGMA max_page_count = 1000000") }
        history.record(whole: Story(502))
        let jobs = try await history.jobs(matching: JobFilter(limit: .max))
        #expect(jobs.map(\.id.number) == (1...502).reversed())
        #expect(jobs.allSatisfy { $0.ended != nil })
        #expect(bench.complaints.count == 2, "\(bench.complaints)")
        #expect(bench.complaints.last?.text.contains("are missing") == true)
        #expect(try bench.aside().isEmpty)
        await history.close()
    }

    @Test(
        "jobs that end beyond the bound while nothing can be written do not look open afterwards, and are written without another record"
    )
    func endsOnFullDisk() async throws {
        let bench = try HistoryBench()
        let history = bench.history(bound: HistoryQueue.Bound(ended: 10))
        let jobs = (1...100).map { Story($0).began() }
        for job in jobs { history.record(job) }
        await history.flush()
        _ = try await history.withDatabase { database in
            let pages = try database.integer("PRAGMA page_count") ?? 0
            try database.execute("PRAGMA max_page_count = \(pages)")
        }
        for job in jobs { history.record(job.step(String(repeating: "long", count: 500)).ended()) }
        await history.flush()
        #expect(bench.complaints.contains { $0.text.contains("make room") }, "\(bench.complaints)")

        _ = try await history.withDatabase { try $0.execute("PRAGMA max_page_count = 1000000") }
        let reader = try HistoryReader(file: bench.file)
        try await eventually("every end is in the file") { try reader.open().isEmpty }
        #expect(try reader.jobs(matching: JobFilter(limit: .max)).count { $0.result == .success } == 100)
        await history.close()
    }

    @Test(
        "a record that cannot be read is left out of lists with one notice, and an error when it is asked for; the others and the file stay"
    )
    func unreadableRecord() async throws {
        let bench = try HistoryBench()
        let first = bench.history()
        for number in 1...3 { first.record(whole: Story(number)) }
        for number in 4...5 { first.record(Story(number).began()) }
        await first.close()
        let database = try SQLite(bench.file.string)
        try database.run("UPDATE job SET record = '{}' WHERE id = 2")
        try database.run("UPDATE job SET record = 'no JSON' WHERE id = 4")
        try database.close()

        let history = bench.history()
        let interrupted = try await history.unfinished()
        #expect(interrupted.map(\.id.number) == [5])
        #expect(interrupted.first?.attempts.map(\.fate) == [.lost])
        history.record(whole: Story(6))
        for _ in 1...2 { #expect(try await history.jobs().map(\.id.number) == [6, 5, 3, 1]) }
        let problems = bench.complaints.filter { $0.job != nil }
        #expect(problems.compactMap(\.job).sorted() == [JobID(2), JobID(4)], "\(problems)")
        for job in [2, 4] {
            let command = "PRAGMA foreign_keys = ON; DELETE FROM job WHERE id = \(job)"
            let error = await #expect(throws: HistoryError.self) { try await history.job(JobID(UInt64(job))) }
            #expect(error?.description.contains(command) == true)
            #expect(problems.contains { $0.text.contains(command) }, "\(problems)")
            _ = try await history.withDatabase { try $0.execute(command) }
            #expect(try await history.job(JobID(UInt64(job))) == nil)
        }
        #expect(try bench.aside().isEmpty)
        await history.close()
    }

    @Test("interrupted jobs can be read as soon as another program no longer keeps the history locked")
    func lockedAtStart() async throws {
        let bench = try HistoryBench()
        let first = bench.history()
        first.record(Story(1).began())
        await first.close()
        let other = try SQLite(bench.file.string)
        try other.execute("BEGIN EXCLUSIVE")

        let history = bench.history()
        history.record(Story(2).began())
        history.record(whole: Story(3))
        let error = await #expect(throws: HistoryError.self) { try await history.unfinished() }
        #expect(error?.isPassing == true)
        let waiting = Task { try await history.unfinished(waits: true) }
        let given = Task { try await history.unfinished(waits: true) }
        given.cancel()
        await #expect(throws: HistoryError.self) { try await given.value }
        try other.execute("ROLLBACK")
        try other.close()
        #expect(try await waiting.value.map(\.id.number) == [1], "none of this run")
        #expect(bench.complaints.first?.text.contains("fuser") == true, "\(bench.complaints)")
        await history.close()
    }

    @Test(
        "where there is no room for a new history, it is created when something is recorded and there is room, with one notice before and one after"
    )
    func noRoomAtStart() async throws {
        let bench = try HistoryBench()
        let directory = bench.directory.appending("small")
        try FileManager.default.createDirectory(atPath: directory.string, withIntermediateDirectories: false)
        guard mount("none", directory.string, "tmpfs", 0, "nr_inodes=16,mode=700") == 0 else {
            print("no file system can be mounted here: one without room is not tried")
            return
        }
        defer { #expect(umount2(directory.string, Int32(MNT_DETACH)) == 0) }
        let filler = directory.appending("filler")
        #expect(mkdir(filler.string, 0o700) == 0)
        var count = 0
        while case let file = creat(filler.appending("\(count)").string, 0o600), file >= 0 {
            close(file)
            count += 1
        }
        #expect(errno == ENOSPC)

        let history = bench.history(file: directory.appending("history.sqlite"))
        #expect(try await history.unfinished().isEmpty, "without a file none was interrupted")
        history.record(whole: Story(1))
        await history.flush()
        let error = await #expect(throws: HistoryError.self) { try await history.jobs() }
        #expect(error?.isPassing == true)
        #expect(bench.complaints.count == 1, "\(bench.complaints)")
        #expect(bench.complaints.first?.text.contains("df -i \(directory)") == true, "\(bench.complaints)")

        for number in 0..<count { unlink(filler.appending("\(number)").string) }
        history.record(whole: Story(2))
        try await eventually("both are recorded") {
            do { return try await history.jobs().map(\.id.number) == [2, 1] } catch is HistoryError { return false }
        }
        #expect(bench.complaints.count == 2, "\(bench.complaints)")
        #expect(bench.complaints.last?.text.contains("the history is written again") == true, "\(bench.complaints)")
        await history.close()
    }

    @Test("without free descriptors jobs wait to be recorded, and the file stays")
    func shortage() async {
        await #expect(processExitsWith: .success) {
            let bench = try HistoryBench()
            let first = bench.history()
            first.record(Story(1).began())
            await first.close()
            let history = bench.history()
            var limit = rlimit()
            let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
            #expect(getrlimit(resource, &limit) == 0)
            let usual = limit.rlim_cur
            limit.rlim_cur = 3
            #expect(setrlimit(resource, &limit) == 0)
            history.record(Story(1).began().ended())
            await history.flush()
            limit.rlim_cur = usual
            #expect(setrlimit(resource, &limit) == 0)
            try await eventually("the end is recorded") {
                do { return try await history.job(JobID(1))?.result == .success } catch is HistoryError { return false }
            }
            #expect(try bench.aside().isEmpty)
            #expect(bench.complaints.contains { $0.text.contains("LimitNOFILE") }, "\(bench.complaints)")
            await history.close()
        }
    }

    @Test("a file system without room and one that is read only: a notice reports it and jobs continue")
    func fileSystems() async throws {
        let bench = try HistoryBench()
        let directory = bench.directory.appending("small")
        try FileManager.default.createDirectory(atPath: directory.string, withIntermediateDirectories: false)
        guard mount("none", directory.string, "tmpfs", 0, "size=2m,mode=700") == 0 else {
            print("no file system can be mounted here: a full and a read-only one are not tried")
            return
        }
        defer { #expect(umount2(directory.string, Int32(MNT_DETACH)) == 0) }
        let file = directory.appending("history.sqlite")
        let filler = directory.appending("filler")

        let history = bench.history(file: file)
        history.record(whole: Story(1))
        await history.flush()
        try bench.write(repeatElement(0, count: 3 << 19), to: filler)
        for number in 2...400 { history.record(whole: Story(number)) }
        await history.flush()
        #expect(bench.complaints.count == 1, "\(bench.complaints)")
        #expect(bench.complaints.first?.text.contains("make room") == true)
        #expect(try await history.job(JobID(1)) != nil)
        #expect(unlink(filler.string) == 0)
        history.record(Story(3_001))
        #expect(try await history.job(JobID(3_001)) != nil)
        #expect(bench.complaints.count == 2, "\(bench.complaints)")
        await history.close()

        // A process that another test is just starting holds what is open here until its program begins.
        try await eventually("it becomes read only") {
            mount("none", directory.string, "tmpfs", UInt(MS_REMOUNT | MS_RDONLY), nil) == 0
        }
        let second = bench.history(file: file)
        second.record(Story(4_000))
        await #expect(throws: HistoryError.self) { try await second.jobs() }
        #expect(bench.complaints.count == 3, "\(bench.complaints)")
        #expect(bench.complaints.last?.text.contains("findmnt") == true)
        #expect(mount("none", directory.string, "tmpfs", UInt(MS_REMOUNT), nil) == 0)
        try await eventually("it is recorded") {
            do { return try await second.job(JobID(4_000)) != nil } catch is HistoryError { return false }
        }
        #expect(try await second.job(JobID(1)) != nil)
        #expect(bench.complaints.count == 4, "\(bench.complaints)")
        await second.close()
    }

    @Test("where no history can be created, one notice has the hint, and jobs wait until its cause is gone")
    func noPlace() async throws {
        let bench = try HistoryBench()
        let (none, open) = (bench.directory.appending("none"), bench.directory.appending("open"))
        let plain = bench.directory.appending("plain")
        #expect(mkdir(open.string, 0o700) == 0 && chmod(open.string, 0o777) == 0)
        try bench.write("x".utf8, to: plain)
        let places: [(FilePath, String, () -> Bool)] = [
            (none, "namei -l", { mkdir(none.string, 0o700) == 0 }),
            (open, "chmod go-w", { chmod(open.string, 0o700) == 0 }),
            (plain, "correct the setting", { unlink(plain.string) == 0 && mkdir(plain.string, 0o700) == 0 }),
        ]
        for (index, (directory, hint, fix)) in places.enumerated() {
            let history = bench.history(file: directory.appending("h"))
            for number in 1...50 { history.record(whole: Story(number)) }
            await history.flush()
            let error = await #expect(throws: HistoryError.self) { try await history.jobs() }
            #expect(error?.isPassing == true)
            #expect(bench.complaints.count == 2 * index + 1, "\(bench.complaints)")
            #expect(bench.complaints.last?.text.contains(hint) == true, "\(bench.complaints)")

            let isFixed = fix()
            #expect(isFixed)
            try await eventually("all are recorded") {
                do { return try await history.jobs().count == 50 } catch is HistoryError { return false }
            }
            #expect(bench.complaints.count == 2 * index + 2, "\(bench.complaints)")
            #expect(bench.complaints.last?.text.contains("the history is written again") == true)
            await history.close()
        }
    }

    @Test(
        "a history of an earlier version is set aside complete, with what a crash has left in its log, with one notice that counts its open jobs"
    )
    func older() async throws {
        let bench = try HistoryBench()
        let place = bench.directory.appending("place")
        try FileManager.default.createDirectory(
            atPath: place.string, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o700])
        try Self.makeOlder(place.appending("h"))
        let old = try SQLite(place.appending("h").string)
        try old.execute("PRAGMA journal_mode = WAL; UPDATE job SET ended = NULL, client = 'in the log' WHERE id = 8")
        for suffix in ["", "-wal"] {
            try FileManager.default.copyItem(
                atPath: place.string + "/h" + suffix, toPath: bench.file.string + suffix)
        }
        try old.close()
        let contents = try Data(contentsOf: URL(filePath: bench.file.string))
        #expect(throws: HistoryError.self) { try HistoryReader(file: bench.file) }

        let history = bench.history()
        #expect(try await history.unfinished().isEmpty)
        #expect(try await history.job(JobID(8)) == nil)
        #expect(bench.complaints.count == 1, "\(bench.complaints)")
        #expect(bench.complaints.first?.text.contains("2 jobs that it has as open are not taken over") == true)
        let aside = try #require(try bench.aside(as: "old").first { !$0.hasSuffix("-wal") && !$0.hasSuffix("-shm") })
        #expect(bench.complaints.first?.text.contains(aside) == true)
        #expect(try Data(contentsOf: URL(filePath: bench.directory.appending(aside).string)) == contents)
        await history.close()
        let kept = try SQLite(bench.directory.appending(aside).string)
        #expect(try kept.integer("SELECT count(*) FROM job WHERE client = 'in the log'") == 1)
        try kept.close()
    }

    @Test(
        "a history of a later version is set aside complete, for that version, with one notice that counts its open jobs, if it can be read",
        arguments: [true, false])
    func newer(isReadable: Bool) async throws {
        let bench = try HistoryBench()
        let later = bench.history()
        later.record(whole: Story(1))
        for number in 2...3 { later.record(Story(number)) }
        await later.close()
        let database = try SQLite(bench.file.string)
        try database.execute("PRAGMA user_version = 999")
        if !isReadable { try database.execute("ALTER TABLE job RENAME TO task") }
        try database.close()
        let contents = try Data(contentsOf: URL(filePath: bench.file.string))

        let history = bench.history()
        #expect(try await history.jobs().isEmpty)
        let notice = try #require(bench.complaints.first)
        #expect(bench.complaints.count == 1, "\(bench.complaints)")
        #expect(notice.text.contains(isReadable ? "2 jobs" : "cannot be counted"), "\(notice.text)")
        let aside = try #require(try bench.aside(as: "newer").first { !$0.hasSuffix("-wal") && !$0.hasSuffix("-shm") })
        #expect(notice.text.contains(aside))
        #expect(try Data(contentsOf: URL(filePath: bench.directory.appending(aside).string)) == contents)
        #expect(try bench.aside().isEmpty)
        await history.close()
    }

    private static func makeOlder(_ file: FilePath) throws {
        let old = try SQLite(file.string)
        try old.execute(
            """
            PRAGMA application_id = 1347570248;
            CREATE TABLE job (id INTEGER PRIMARY KEY, run INTEGER NOT NULL, type TEXT NOT NULL, name TEXT NOT NULL,
                level TEXT NOT NULL, subject TEXT NOT NULL, client TEXT NOT NULL, priority INTEGER NOT NULL,
                created INTEGER NOT NULL, status TEXT NOT NULL, progress INTEGER, ended INTEGER, result TEXT) STRICT;
            CREATE TABLE attempt (id INTEGER PRIMARY KEY, job INTEGER NOT NULL, number INTEGER NOT NULL,
                began INTEGER NOT NULL, ended INTEGER, fate TEXT) STRICT;
            INSERT INTO job VALUES (7, 1, 'Backup', 'daily', 'daily', 'uuid', '3724300', 3, 1790000000000000, 'R', NULL,
                NULL, NULL), (8, 1, 'Backup', 'daily', 'daily', 'uuid', '3724300', 10, 1790000000000000, 'T', NULL,
                1790000001000000, 'success');
            INSERT INTO attempt VALUES (1, 7, 1, 1790000001000000, 1790000002000000, 'cut off'),
                (2, 7, 2, 1790000003000000, NULL, NULL);
            """)
        try old.close()
        #expect(chmod(file.string, 0o600) == 0)
    }
}
