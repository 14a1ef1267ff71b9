import ArgumentParser
import Foundation
import JobCore
import Testing

@testable import prov_backup_rsnapshot

/// What the job commands read and print, as values.
@Suite struct JobTextTests {
    private static let noon = WallTime(secondsSince1970: 1_795_262_400)  // 2026-11-21T12:00:00Z

    private static func job(_ id: UInt64 = 7, status: JobStatus = .running, result: JobResult? = nil) -> JobLine {
        JobLine(
            id: id, type: "Backup", level: "daily", name: "daily", client: "3724300", status: status.letter,
            meaning: status.title, attempt: 1, created: Moment(noon), started: Moment(noon), seconds: 75,
            result: result?.rawValue, isOpen: !status.isFinal)
    }

    private static func details(_ change: (inout JobDetails) -> Void = { _ in }) -> JobDetails {
        var details = JobDetails(job: job(), uniqueName: "daily.7", subject: "uuid", priority: 10)
        change(&details)
        return details
    }

    private static func output(_ head: String, dropped: Int = 0, tail: String = "") -> JobOutput {
        JobOutput(CapturedOutput(head: Array(head.utf8), tail: Array(tail.utf8), dropped: dropped))
    }

    // MARK: Times

    @Test("a time is a span back from now, a day, or a day with a time; an end of a day is its last second")
    func times() throws {
        func parse(_ text: String, end: Bool = false) throws -> WallTime {
            try TimeArgument.parse(text, option: "--since", now: Self.noon, meansEnd: end).time
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
        "what is no time is refused with the forms, and 64",
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
        let all = String(JobStatus.allCases.map(\.rawValue))
        #expect(all.count == 19)
        #expect(try JobsCommand.List.parse(["--status", all]).query(now: Self.noon).statuses == all)
        let thrown = #expect(throws: (any Error).self) { try JobsCommand.List.parse(["--status", "TX"]) }
        let told = JobsCommand.List.fullMessage(for: try #require(thrown))
        for status in JobStatus.allCases { #expect(told.contains("\(status.letter) \(status.title)")) }
    }

    @Test(
        "wrong usage of the job commands is told before anything is asked",
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

    @Test("a type is found however its letters are written, and one of another daemon is taken as it stands")
    func types() throws {
        #expect(try JobsCommand.List.parse(["--type", "backup"]).query(now: Self.noon).type == "Backup")
        #expect(try JobsCommand.List.parse(["--type", "Mirror"]).query(now: Self.noon).type == "Mirror")
    }

    @Test("a query includes a job when every one of its conditions does")
    func queries() {
        let job = Self.job()
        #expect(JobQuery().includes(job))
        #expect(JobQuery(client: "3724300", type: "Backup", statuses: "TR").includes(job))
        #expect(!JobQuery(client: "3724301").includes(job))
        #expect(!JobQuery(type: "Admin").includes(job))
        #expect(!JobQuery(statuses: "rT").includes(job), "letters have a case")
        #expect(JobQuery(since: Moment(Self.noon), until: Moment(Self.noon)).includes(job))
        #expect(!JobQuery(since: Moment(Self.noon + .seconds(1))).includes(job))
        #expect(!JobQuery(until: Moment(Self.noon + .seconds(-1))).includes(job))
    }

    @Test("a moment survives JSON, and nonsense is none")
    func moments() throws {
        let text = try JSONText.line([Moment(Self.noon)])
        #expect(text == #"["20261121T120000Z"]"#)
        #expect(try JSONDecoder().decode([Moment].self, from: Data(text.utf8)) == [Moment(Self.noon)])
        #expect(throws: DecodingError.self) { try JSONDecoder().decode([Moment].self, from: Data(#"["soon"]"#.utf8)) }
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

    @Test("B9 a line of the list holds number, type, name, client, letter and words, attempt, progress and message")
    func row() {
        var job = Self.job(status: .waitingForMaximumJobs)
        job.progress = 40
        job.message = "full"
        let row = JobText.row(job)
        #expect(row.count == JobText.headings.count)
        for cell in ["7", "Backup", "daily", "3724300", "d", "waiting on maximum jobs", "1", "40 %", "1m15s", "full"] {
            #expect(row.contains(cell), "\(cell)")
        }
        job.name = "add"
        job.message = String(repeating: "x", count: 5_000)
        #expect(JobText.row(job).contains("add/daily"))
        #expect(JobText.row(job).last?.count == 100)
    }

    @Test(
        "spans are short",
        arguments: [
            (0.0, "0.0 s"), (-3, "0.0 s"), (0.46, "0.4 s"), (9.99, "9.9 s"), (12.7, "12 s"), (60, "1m00s"),
            (3_725, "1h02m"), (90_000, "1d01h"), (1e300, "11574074d01h"),
        ])
    func spans(seconds: Double, text: String) { #expect(JobText.span(seconds) == text) }

    @Test("nothing that a script or an entry holds reaches the terminal as a control character")
    func controlCharacters() {
        let evil = "\u{1B}[2J\u{7}\r\n\u{202E}"
        var details = Self.details {
            $0.report = [JobDetails.Line(time: nil, source: "script", text: evil)]
            $0.output = Self.output("a\(evil)b\n", dropped: 3, tail: evil)
            $0.attempts = [.init(number: 1, began: Moment(Self.noon), fate: evil, result: evil, message: evil)]
            $0.statuses = [.init(time: Moment(Self.noon), letter: evil)]
            $0.steps = [
                .init(
                    name: evil, attempt: 1, began: Moment(Self.noon), seconds: 1, result: evil,
                    script: .init(
                        path: evil, resolvedPath: evil, sha256: evil, arguments: [evil], refusal: evil,
                        survivors: [evil], output: Self.output(evil)))
            ]
        }
        details.job.client = evil
        details.job.message = evil
        var follower = JobFollower()
        var table = TextTable(JobText.headings)
        let script = ScriptLine(kind: .job, name: evil, path: evil, state: .ok, problem: evil, schedule: evil)
        let lines =
            JobText.lines(details) + follower.news(details) + table.lines([JobText.row(details.job)])
            + ScriptText.lines([script])
        #expect(lines.count > 30)
        for line in lines {
            #expect(!line.unicodeScalars.contains { $0.value < 0x20 || $0.value == 0x202E }, "\(line.debugDescription)")
        }
    }

    @Test("everything of a job stands in its text: file, hash, owner, mode, command, survivors, output with its gap")
    func wholeText() {
        let details = Self.details {
            $0.steps = [
                .init(
                    name: "rsnapshot", attempt: 1, began: Moment(Self.noon), seconds: 2, result: "failed",
                    script: .init(
                        path: "/usr/bin/rsnapshot", resolvedPath: "/opt/rsnapshot", sha256: "cafe", device: 8,
                        inode: 42,
                        owner: 0, mode: "755", size: 120, modified: Moment(Self.noon),
                        arguments: ["/usr/bin/rsnapshot", "-c", "a file"], termination: "exit code 1",
                        endedBy: "time limit", survivors: ["sleep (12)"],
                        output: Self.output("first\n", dropped: 1_000, tail: "last\n")))
            ]
            $0.report = [.init(time: Moment(Self.noon), source: "reporter", text: "half")]
            $0.droppedLines = 3
            $0.statuses = [.init(time: Moment(Self.noon), letter: "f")]
        }
        let text = JobText.lines(details).joined(separator: "\n")
        for part in [
            "/usr/bin/rsnapshot  (/opt/rsnapshot)", "cafe", "inode 42 on device 8, owner 0, mode 755, 120 bytes",
            #""/usr/bin/rsnapshot" "-c" "a file""#, "exit code 1, ended by its time limit", "sleep (12)", "| first",
            "| … 1000 bytes left out …", "| last", "reporter: half", "3 more lines found no place",
            "f  fatal error", "daily.7",
        ] { #expect(text.contains(part), "\(part) is missing in:\n\(text)") }
    }

    @Test("JSON holds output as text, also where it is none")
    func json() throws {
        let details = Self.details { $0.output = JobOutput(CapturedOutput(head: [0x61, 0xFF, 0x0A])) }
        let text = try JSONText.line(details)
        #expect(text.contains(#""head":"a\#u{FFFD}\n""#), "\(text)")
        // Over the socket every byte arrives.
        let wire = try JSONEncoder().encode(details)
        #expect(try JSONDecoder().decode(JobDetails.self, from: wire) == details)
    }

    // MARK: Following

    @Test("a follower tells what is new once: whole lines of output, then the rest when the program has ended")
    func following() {
        var follower = JobFollower()
        var details = Self.details { $0.output = Self.output("one\ntw") }
        #expect(follower.news(details) == ["| one"])
        #expect(follower.news(details).isEmpty)
        details.output = Self.output("one\ntwo\nthree")
        details.report.append(.init(time: nil, source: "handler", text: "hello"))
        details.job.progress = 30
        #expect(follower.news(details) == ["| two", "report  handler: hello", "progress  30 %"])
        details.output = nil
        let run = JobDetails.Script(arguments: ["/x"], output: Self.output("one\ntwo\nthree"))
        details.steps.append(
            .init(name: "x", attempt: 1, began: Moment(Self.noon), seconds: 1, result: "success", script: run))
        let news = follower.news(details)
        #expect(news.first == "| three")
        #expect(news.dropFirst().first?.hasPrefix("step  1") == true)
        #expect(follower.news(details).isEmpty)
        details.output = Self.output("next\n")
        #expect(follower.news(details) == ["| next"])
    }

    @Test("output that outruns the follower is told with the number of bytes that nobody kept")
    func followingGaps() {
        var follower = JobFollower()
        var details = Self.details { $0.output = Self.output("ab\ncd\n") }
        #expect(follower.news(details) == ["| ab", "| cd"])
        // 6 of head, 4 of them told… then 94 that were dropped, and a tail of 5.
        details.output = Self.output("ab\ncd\n", dropped: 94, tail: "tail\n")
        #expect(follower.news(details) == ["| … 94 bytes left out …", "| tail"])
        // The tail moves on: of the 94 + 10 dropped now, 99 were seen or told.
        details.output = Self.output("ab\ncd\n", dropped: 104, tail: "more\n")
        #expect(follower.news(details) == ["| … 5 bytes left out …", "| more"])
        // Everything that was told is still there.
        details.output = Self.output("ab\ncd\n", dropped: 104, tail: "more\nx\n")
        #expect(follower.news(details) == ["| x"])
    }

    @Test("a follower that begins after a printed job tells nothing twice")
    func followingOn() {
        let details = Self.details {
            $0.output = Self.output("one\ntw")
            $0.report = [.init(time: nil, source: "daemon", text: "hello")]
            $0.attempts = [.init(number: 1, began: Moment(Self.noon), fate: "running")]
        }
        var follower = JobFollower(known: details)
        #expect(follower.news(details).isEmpty)
        var later = details
        later.output = Self.output("one\ntwo\n")
        #expect(follower.news(later) == ["| o"])
    }

    // MARK: Backups

    @Test("jobs asked for together: progress never falls, warnings are good, what nobody knows is not")
    func backupProgress() {
        var progress = BackupProgress(ids: [1, 2, 3])
        #expect(progress.total == 300)
        var first = Self.job(1)
        first.progress = 50
        #expect(progress.take([first, Self.job(2), Self.job(3)]).isEmpty)
        #expect(progress.done == 50)
        first.progress = 0
        let ended = progress.take([first, Self.job(2, status: .nonFatalError, result: .warnings), Self.job(3)])
        #expect(ended.map(\.id) == [2])
        #expect(progress.done == 100)
        #expect(progress.open == [1, 3])
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

    @Test("a script that cannot run stands in the list with what mends it")
    func scripts() {
        let lines = ScriptText.lines([
            ScriptLine(kind: .hook, name: "Backup pre script", path: "/etc/x/pre_script.sh", state: .missing),
            ScriptLine(
                kind: .job, name: "nightly", path: "/etc/x/nightly.sh", state: .notTrusted,
                problem: "/etc/x can be written by others; run: chmod go-w /etc/x", schedule: "0 3 * * *",
                next: Moment(Self.noon)),
        ])
        #expect(lines.count == 4)
        #expect(lines[2].contains("not trusted") && lines[2].contains("0 3 * * *"))
        #expect(lines[3].contains("chmod go-w"))
    }
}
