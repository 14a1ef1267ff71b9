import ArgumentParser
import Foundation
import Testing

@testable import BackupService
@testable import JobCore
@testable import prov_backup_rsnapshot

/// Arguments and output of the job commands, as values.
@Suite struct JobTextTests {
    private static let noon = Timestamp(secondsSince1970: 1_795_262_400)  // 2026-11-21T12:00:00Z

    private static func job(
        _ id: UInt64 = 7, status: JobStatus = .running, result: JobResult? = nil,
        _ change: (inout Job) -> Void = { _ in }
    ) -> Job {
        var job = Job(
            id: JobID(id), type: .backup, name: "daily", level: "daily", subject: JobSubject("uuid"),
            client: "3724300",
            created: noon)
        (job.status, job.attempt, job.started, job.seconds) = (status, 1, noon, 75)
        (job.result, job.ended) = (result, status.isFinal ? noon + .seconds(75) : nil)
        change(&job)
        return job
    }

    private static func output(_ head: String, dropped: Int = 0, tail: String = "") -> CapturedOutput {
        CapturedOutput(head: Array(head.utf8), tail: Array(tail.utf8), dropped: dropped)
    }

    // MARK: Times

    @Test("a time is a span back from now, a day, or a day with a time; an end of a day is its last second")
    func times() throws {
        func parse(_ text: String, end: Bool = false) throws -> Timestamp {
            try TimeArgument.parse(text, option: "--since", now: Self.noon, meansEnd: end)
        }
        #expect(try parse("90s") == Self.noon + .seconds(-90))
        #expect(try parse("15m") == Self.noon + .seconds(-900))
        #expect(try parse("2h") == Self.noon + .seconds(-7_200))
        #expect(try parse("1d") == Self.noon + .seconds(-86_400))
        #expect(try parse("1w") == Self.noon + .seconds(-604_800))
        let day = try #require(CalendarDay(year: 2026, month: 11, day: 21))
        let midnight = DayCalendar.system.startOfDay(day)
        #expect(try parse("2026-11-21") == midnight)
        #expect(try parse("2026-11-21", end: true) == midnight + .seconds(86_399))
        #expect(try parse("2026-11-21T06:30") == midnight + .seconds(6 * 3_600 + 1_800))
        #expect(try parse("2026-11-21T06:30:15", end: true) == midnight + .seconds(6 * 3_600 + 1_815))
    }

    @Test(
        "an invalid time is refused with the valid forms and exit status 64",
        arguments: [
            "", "yesterday", "h", "-2h", "2x", "2026-02-30", "2026-13-01", "2026-11-21T24:00", "2026-11-21T1:00",
            "2026-11-21 06:30", "99999999999d", "0000-01-01", "2026-11-21T06:30:15Z",
        ])
    func badTimes(text: String) throws {
        let thrown = #expect(throws: (any Error).self) { try JobsCommand.List.parse(["--since=\(text)"]) }
        let error = try #require(thrown)
        #expect(JobsCommand.List.fullMessage(for: error).contains("YYYY-MM-DDThh:mm:ss"))
        #expect(JobsCommand.List.exitCode(for: error).rawValue == 64)
    }

    @Test("B9 --status takes every one of the 19 letters, and names them all where there is no such letter")
    func letters() throws {
        let all = JobStatus.allCases.map(\.rawValue).joined()
        #expect(all.count == 19)
        #expect(try JobsCommand.List.parse(["--status", all]).query(now: Self.noon).statuses == all)
        let thrown = #expect(throws: (any Error).self) { try JobsCommand.List.parse(["--status", "TX"]) }
        let told = JobsCommand.List.fullMessage(for: try #require(thrown))
        for status in JobStatus.allCases { #expect(told.contains("\(status.letter) \(status.title)")) }
    }

    @Test(
        "wrong usage of the job commands is reported before a request is sent",
        arguments: [
            ["list", "--limit", "0"], ["list", "--limit", "many"], ["show"], ["show", "seven"], ["show", "-1"],
            ["show", "7", "--json", "--follow"], ["cancel"], ["run"], ["nonsense"],
        ])
    func usage(arguments: [String]) throws {
        let thrown = #expect(throws: (any Error).self) {
            _ = try ProvBackupRsnapshot.parseAsRoot(["jobs"] + arguments)
        }
        #expect(ProvBackupRsnapshot.exitCode(for: try #require(thrown)).rawValue == 64)
    }

    @Test("an unknown level of a backup names the five, and 64")
    func levels() throws {
        for level in ["hourly", "daily", "weekly", "monthly", "yearly"] {
            _ = try BackupCommand.parse([level, "--account", "1", "--account", "2"])
        }
        let thrown = #expect(throws: (any Error).self) { try BackupCommand.parse(["nightly"]) }
        let error = try #require(thrown)
        #expect(
            BackupCommand.fullMessage(for: error).contains(
                "no level nightly; there are hourly, daily, weekly, monthly, yearly"))
        #expect(BackupCommand.exitCode(for: error).rawValue == 64)
    }

    @Test("types are not case-sensitive, and unknown types are refused with the known ones")
    func types() throws {
        #expect(try JobsCommand.List.parse(["--type", "backup"]).query(now: Self.noon).type == "Backup")
        let error = try #require(throws: (any Error).self) { try JobsCommand.List.parse(["--type", "Mirror"]) }
        #expect(JobsCommand.List.fullMessage(for: error).contains("Provisioning, Backup, Admin, Purge"))
        #expect(JobsCommand.List.exitCode(for: error).rawValue == 64)
    }

    @Test("a filter includes a job when every one of its conditions does")
    func queries() {
        let job = Self.job()
        #expect(JobFilter().includes(job))
        #expect(JobFilter(client: "3724300", type: "Backup", statuses: "TR").includes(job))
        #expect(!JobFilter(client: "3724301").includes(job))
        #expect(!JobFilter(type: "Admin").includes(job))
        #expect(!JobFilter(statuses: "rT").includes(job), "letters have a case")
        #expect(JobFilter(since: Self.noon, until: Self.noon).includes(job))
        #expect(!JobFilter(since: Self.noon + .seconds(1)).includes(job))
        #expect(!JobFilter(until: Self.noon + .seconds(-1)).includes(job))
    }

    @Test("a time can be encoded and decoded as JSON, invalid text cannot")
    func timesInJSON() throws {
        let text = try jsonLine([Self.noon])
        #expect(text == #"["20261121T120000Z"]"#)
        #expect(try JSONDecoder().decode([Timestamp].self, from: Data(text.utf8)) == [Self.noon])
        #expect(throws: DecodingError.self) {
            try JSONDecoder().decode([Timestamp].self, from: Data(#"["soon"]"#.utf8))
        }
    }

    // MARK: Tables

    @Test("columns are as wide as their widest cell, also for rows that come later")
    func tables() {
        var table = TextTable(["ID", "NAME", "MESSAGE"])
        #expect(
            table.lines([["1", "a-long-name", "x"], ["100", "b", ""]]) == [
                "ID   NAME         MESSAGE", "1    a-long-name  x", "100  b",
            ])
        #expect(table.line(["7", "c", "later"]) == "7    c            later")
    }

    @Test("B9 a line of the list contains number, type, name, client, status, attempt, progress and message")
    func row() {
        var job = Self.job(status: .waitingForMaximumJobs)
        job.progress = 40
        job.message = "full"
        let row = JobText.row(job)
        #expect(row.count == JobText.headings.count)
        for cell in ["7", "Backup", "daily", "3724300", "d", "waiting on maximum jobs", "1", "40 %", "1m15s", "full"] {
            #expect(row.contains(cell), "\(cell)")
        }
        job.level = "weekly"
        job.message = String(repeating: "x", count: 5_000)
        #expect(JobText.row(job).contains("daily/weekly"))
        #expect(JobText.row(job).last?.count == 100)
    }

    @Test(
        "spans are short",
        arguments: [
            (0.0, "0.0 s"), (-3, "0.0 s"), (0.46, "0.4 s"), (9.99, "9.9 s"), (12.7, "12 s"), (60, "1m00s"),
            (3_725, "1h02m"), (90_000, "1d01h"), (1e300, "11574074d01h"),
        ])
    func spans(seconds: Double, text: String) { #expect(JobText.span(seconds) == text) }

    @Test("control characters in scripts and entries are escaped on the terminal")
    func controlCharacters() {
        let evil = "\u{1B}[2J\u{7}\r\n\u{202E}"
        var program = Job.Program(arguments: [evil])
        (program.path, program.resolvedPath, program.sha256, program.refusal) = (evil, evil, evil, evil)
        (program.survivors, program.output, program.termination) = ([evil], Self.output(evil), evil)
        var job = Job(
            id: JobID(7), type: JobType(rawValue: evil), name: evil, level: evil,
            subject: JobSubject(evil),
            client: evil, created: Self.noon)
        job.report = [ReportLine(.script, evil, at: Self.noon)]
        job.output = Self.output("a\(evil)b\n", dropped: 3, tail: evil)
        job.attempts = [Job.Attempt(number: 1, began: Self.noon, result: .failed, message: evil)]
        job.statuses = [Job.StatusChange(time: Self.noon, letter: .running)]
        job.steps = [
            Job.Step(
                name: evil, attempt: 1, began: Self.noon, seconds: 1, result: .failed, script: program)
        ]
        (job.message, job.step) = (evil, evil)
        var follower = JobFollower()
        var table = TextTable(JobText.headings)
        let script = ScriptLine(kind: .job, name: evil, path: evil, state: .ok, problem: evil, schedule: evil)
        let lines =
            JobText.lines(job) + follower.lines(job) + table.lines([JobText.row(job)])
            + ScriptLine.table([script])
        #expect(lines.count > 30)
        for line in lines {
            #expect(!line.unicodeScalars.contains { $0.value < 0x20 || $0.value == 0x202E }, "\(line.debugDescription)")
        }
    }

    @Test(
        "the text of a job contains file, hash, owner, mode, command, leftover processes, and output with omitted bytes"
    )
    func wholeText() {
        var program = Job.Program(arguments: ["/usr/bin/rsnapshot", "-c", "a file"])
        (program.path, program.resolvedPath, program.sha256) = (
            "/usr/bin/rsnapshot", "/opt/rsnapshot", "cafe"
        )
        (program.device, program.inode, program.owner, program.mode) = (8, 42, 0, "755")
        (program.size, program.modified) = (120, Self.noon)
        (program.termination, program.endedBy, program.survivors) = (
            "exit code 1", "time limit", ["sleep (12)"]
        )
        program.output = Self.output("first\n", dropped: 1_000, tail: "last\n")
        let job = Self.job { [program] in
            $0.steps = [
                Job.Step(
                    name: "rsnapshot", attempt: 1, began: Self.noon, seconds: 2, result: .failed,
                    script: program)
            ]
            $0.report = [ReportLine(.reporter, "half", at: Self.noon)]
            $0.droppedLines = 3
            $0.statuses = [Job.StatusChange(time: Self.noon, letter: .fatalError)]
        }
        let text = JobText.lines(job).joined(separator: "\n")
        for part in [
            "/usr/bin/rsnapshot  (/opt/rsnapshot)", "cafe", "inode 42 on device 8, owner 0, mode 755, 120 bytes",
            #""/usr/bin/rsnapshot" "-c" "a file""#, "exit code 1, ended by its time limit", "sleep (12)", "| first",
            "| … 1000 bytes omitted …", "| last", "reporter: half", "3 more lines were dropped",
            "f  fatal error", "daily.7",
        ] { #expect(text.contains(part), "\(part) is missing in:\n\(text)") }
    }

    @Test("JSON contains output as text, also if it is not valid UTF-8")
    func json() throws {
        let job = Self.job { $0.output = CapturedOutput(head: [0x61, 0xFF, 0x0A]) }
        let text = try jsonLine(job)
        #expect(text.contains(#""head":"a\#u{FFFD}\n""#), "\(text)")
        // Over the socket every byte arrives.
        let wire = try JSONEncoder().encode(job)
        #expect(try JSONDecoder().decode(Job.self, from: wire) == job)
    }

    // MARK: Following

    @Test("a follower prints changes once: whole lines of output, then the rest when the program has ended")
    func following() {
        var follower = JobFollower()
        var details = Self.job { $0.output = Self.output("one\ntw") }
        #expect(follower.lines(details) == ["| one"])
        #expect(follower.lines(details).isEmpty)
        details.output = Self.output("one\ntwo\nthree")
        details.report.append(ReportLine(.handler, "hello", at: Self.noon))
        details.progress = 30
        #expect(
            follower.lines(details) == [
                "| two", "report  \(Self.noon.local)  handler: hello", "progress  30 %",
            ])
        details.output = nil
        var run = Job.Program(arguments: ["/x"])
        run.output = Self.output("one\ntwo\nthree")
        details.steps.append(
            Job.Step(name: "x", attempt: 1, began: Self.noon, seconds: 1, result: .success, script: run))
        let news = follower.lines(details)
        #expect(news.first == "| three")
        #expect(news.dropFirst().first?.hasPrefix("step  1") == true)
        #expect(follower.lines(details).isEmpty)
        details.output = Self.output("next\n")
        #expect(follower.lines(details) == ["| next"])
    }

    @Test("output that is dropped before the follower reads it is printed as a number of bytes")
    func followingGaps() {
        var follower = JobFollower()
        var details = Self.job { $0.output = Self.output("ab\ncd\n") }
        #expect(follower.lines(details) == ["| ab", "| cd"])
        // A head of 6, 4 of them printed; 94 dropped; a tail of 5.
        details.output = Self.output("ab\ncd\n", dropped: 94, tail: "tail\n")
        #expect(follower.lines(details) == ["| … 94 bytes omitted …", "| tail"])
        // The tail moves on: of the 94 + 10 dropped bytes, 99 were printed or counted.
        details.output = Self.output("ab\ncd\n", dropped: 104, tail: "more\n")
        #expect(follower.lines(details) == ["| … 5 bytes omitted …", "| more"])
        // Everything that was printed is still there.
        details.output = Self.output("ab\ncd\n", dropped: 104, tail: "more\nx\n")
        #expect(follower.lines(details) == ["| x"])
    }

    @Test("a follower that begins after a printed job repeats nothing")
    func followingOn() {
        let details = Self.job {
            $0.output = Self.output("one\ntw")
            $0.report = [ReportLine(.daemon, "hello", at: Self.noon)]
            $0.attempts = [Job.Attempt(number: 1, began: Self.noon)]
        }
        var follower = JobFollower(known: details)
        #expect(follower.lines(details).isEmpty)
        var later = details
        later.output = Self.output("one\ntwo\n")
        #expect(follower.lines(later) == ["| o"])
    }

    // MARK: Backups

    @Test("jobs submitted together: progress never decreases, warnings count as success, unknown jobs do not")
    func backupProgress() {
        var progress = BackupProgress(ids: [1, 2, 3].map { JobID($0) })
        #expect(progress.total == 300)
        var first = Self.job(1)
        first.progress = 50
        #expect(progress.take([first, Self.job(2), Self.job(3)]).isEmpty)
        #expect(progress.done == 50)
        first.progress = 0
        let ended = progress.take([
            first, Self.job(2, status: .nonFatalError, result: .warnings), Self.job(3),
        ])
        #expect(ended.map(\.id.number) == [2])
        #expect(progress.done == 100)
        #expect(progress.open.map(\.number) == [1, 3])
        var good = progress
        _ = good.take([
            Self.job(1, status: .successful, result: .success), Self.job(3, status: .successful, result: .success),
        ])
        #expect(good.open.isEmpty && good.isGood && good.done == 300)
        #expect(good.summary == "3 jobs: 2 success, 1 warnings")
        var bad = progress
        _ = bad.take([Self.job(1, status: .fatalError, result: .wrongConfiguration)])
        #expect(bad.open.isEmpty && !bad.isGood)
        #expect(bad.summary.contains("1 wrong configuration") && bad.summary.contains("1 without a record"))
    }

    @Test("a script that cannot run is listed with its hint")
    func scripts() {
        let lines = ScriptLine.table([
            ScriptLine(kind: .hook, name: "Backup pre script", path: "/etc/x/pre_script.sh", state: .missing),
            ScriptLine(
                kind: .job, name: "nightly", path: "/etc/x/nightly.sh", state: .notTrusted,
                problem: "/etc/x can be written by others; run: chmod go-w /etc/x", schedule: "0 3 * * *",
                next: Self.noon),
        ])
        #expect(lines.count == 4)
        #expect(lines[2].contains("not trusted") && lines[2].contains("0 3 * * *"))
        #expect(lines[3].contains("chmod go-w"))
    }

    @Test("the last attempt is that of the snapshots, but for its end the history counts if they do not know it")
    func lastAttempt() {
        var job = Job(
            id: JobID(7), type: .backup, name: "daily", level: "daily", subject: JobSubject("s"), client: "3724300",
            created: Timestamp(secondsSince1970: 1_000))
        job.started = Timestamp(secondsSince1970: 1_001)
        var attempt = SnapshotState.Attempt(job: 7, level: "daily", began: 1_002, message: "")
        #expect(BackupExplanation.lastTry(attempt, job)?.began == attempt.beganAt)
        (job.ended, job.result) = (Timestamp(secondsSince1970: 1_010), .failed)
        #expect(BackupExplanation.lastTry(attempt, job)?.result == "failed")
        attempt.result = "success"
        #expect(BackupExplanation.lastTry(attempt, job)?.result == "success")
        attempt = SnapshotState.Attempt(job: 8, level: "daily", began: 1_020, message: "")
        #expect(BackupExplanation.lastTry(attempt, job)?.job == 8)
    }
}
