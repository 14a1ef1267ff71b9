import Daemon
import Testing

@testable import JobCore
@testable import prov_backup_rsnapshot

/// The log line and the mail about a job that has ended.
@Suite struct JobReportTests {
    private static let time = Timestamp(secondsSince1970: 1_800_000_000)

    private static func end(
        _ type: JobType, _ name: String, _ outcome: JobOutcome, level: String? = nil
    ) -> Job {
        var job = Job(
            id: JobID(17), type: type, name: name, level: level ?? (type == .admin ? "" : name),
            subject: JobSubject("subject"), client: type == .admin ? name : "3724300", created: time)
        (job.ended, job.result, job.message, job.seconds) = (time, outcome.result, outcome.message, 12)
        return job
    }

    @Test("the log line contains kind, result, level and cause, and its level depends on the result")
    func logLine() {
        let rows: [(Job, String, String)] = [
            (Self.end(.backup, "daily", .success), "notice", "backup done: daily"),
            (
                Self.end(.backup, "weekly", JobOutcome(.success, message: "nothing to do: no daily.6")), "notice",
                "backup done: weekly: nothing to do: no daily.6"
            ),
            (
                Self.end(.backup, "daily", JobOutcome(.warnings, message: "a; b")), "warning",
                "backup done with warnings: daily: a; b"
            ),
            (
                Self.end(.backup, "daily", JobOutcome(.failed, message: "no room; make some")), "error",
                "backup failed: daily: no room; make some"
            ),
            (
                Self.end(.backup, "daily", JobOutcome(.wrongConfiguration, message: "x")), "error",
                "backup failed: daily: wrong configuration: x"
            ),
            (Self.end(.admin, "nightly", .canceled), "error", "job nightly aborted: canceled by an operator"),
            (
                Self.end(.backup, "daily", JobOutcome(.aborted, message: "it is gone")), "notice",
                "backup aborted: daily: it is gone"
            ),
            (Self.end(.backup, "daily", JobOutcome(.missed, message: "x")), "error", "backup missed: daily: x"),
            (Self.end(.backup, "daily", JobOutcome(.unknown)), "error", "backup failed: daily: unknown"),
            (Self.end(.backup, "daily", .success, level: "monthly"), "notice", "backup done: monthly"),
            (Self.end(.provisioning, "add", .success), "notice", "provisioning done: add"),
            (
                Self.end(.admin, "nightly", JobOutcome(.failed, message: "exit code 3")), "error",
                "job nightly failed: exit code 3"
            ),
            (Self.end(.purge, "purge", .success), "notice", "purge done"),
        ]
        for (end, level, text) in rows {
            #expect(end.logLevel.rawValue == level && end.logText == text)
        }
    }

    @Test("job, duration, and the account of those that have one, are metadata")
    func metadata() {
        #expect(
            Self.end(.backup, "daily", .success).metadata == ["job": "17", "account": "3724300", "duration": "12 s"])
        #expect(Self.end(.admin, "nightly", .success).metadata == ["job": "17", "duration": "12 s"])
    }

    private func mail(_ sections: [(String?, [String])], environment: String = "production") -> (String, String) {
        var digest = MailDigest()
        var number: UInt64 = 0
        for (title, texts) in sections {
            let run = title.map { digest.open($0) }
            for text in texts {
                number += 1
                if let run { digest.add(JobID(number), to: run) }
                digest.ended(JobID(number), text, at: Self.time)
            }
            if let run { digest.close(run) }
        }
        return JobMail(
            place: JobMail.place(host: "backup1", environment: environment), sections: digest.take(now: Self.time)
        ).message
    }

    @Test(
        "a job that had failed when it was cancelled is mailed; one that an operator ended is not, nor the backup of an account that gets none"
    )
    func canceled() {
        var failed = Self.end(.admin, "nightly", JobOutcome(.failed, message: "exit code 3"))
        var aborted = Self.end(.admin, "nightly", .canceled)
        #expect(JobMail.text(of: failed, []) != nil && JobMail.text(of: aborted, []) != nil)
        (failed.canceler, aborted.canceler) = (.operator, .operator)
        #expect(JobMail.text(of: failed, []) != nil && JobMail.text(of: aborted, []) == nil)
        #expect(JobMail.text(of: Self.end(.admin, "nightly", .success), []) == nil)
        var unserved = Self.end(.backup, "daily", JobOutcome(.aborted))
        #expect(JobMail.text(of: unserved, []) == nil && JobMail.text(of: unserved, ["pre_script.sh"]) != nil)
        unserved.canceler = .handler
        #expect(JobMail.text(of: unserved, []) != nil)
        (unserved.canceler, unserved.reported) = (nil, .aborted)
        #expect(JobMail.text(of: unserved, []) != nil, "its script said so")
    }

    @Test("with ALERT = no a failed pre or post script alone makes no mail, and is not in the mail of a failed job")
    func alertsAreOff() {
        let (good, bad) = (Self.end(.admin, "nightly", .success), Self.end(.admin, "nightly", JobOutcome(.failed)))
        #expect(JobMail.text(of: good, ["pre_script.sh"])?.contains("pre_script.sh") == true)
        #expect(JobMail.text(of: good, ["pre_script.sh"], alerts: false) == nil)
        #expect(JobMail.text(of: bad, ["pre_script.sh"], alerts: false)?.contains("pre_script.sh") == false)
    }

    @Test("the subject names the host, the environment, and the run or the job")
    func subject() throws {
        let one = try #require(
            JobMail.text(of: Self.end(.backup, "daily", JobOutcome(.failed, message: "no room")), []))
        #expect(mail([(nil, [one])]).0 == "backup1 (production): job 17, backup daily 3724300: failed")
        #expect(mail([("backup daily", ["a", "b"])]).0 == "backup1 (production): 2 jobs had failures: backup daily")
        #expect(mail([("backup daily", ["a"]), (nil, ["b"])]).0 == "backup1 (production): 2 jobs had failures")
        #expect(mail([(nil, ["a", "b"])], environment: "backup1").0 == "backup1: 2 jobs had failures")
    }

    @Test("the body contains each run with its jobs, causes and failed scripts, and the number of omitted jobs")
    func body() throws {
        let end = Self.end(.backup, "daily", JobOutcome(.failed, message: "no room; make some"))
        let failed = try #require(JobMail.text(of: end, ["pre_script.sh failed"]))
        let text = mail([("backup daily", [failed]), (nil, Array(repeating: "another", count: 201))]).1
        for part in [
            "202 jobs had failures on backup1 (production)", "backup daily", "job 17", "3724300", "no room; make some",
            "pre_script.sh failed", "1 more", "jobs show",
        ] { #expect(text.contains(part), "\(part)") }
    }

    @Test("the program's own punctuation becomes ASCII, and nothing in a message can begin a line of its own")
    func ascii() throws {
        let end = Self.end(.backup, "daily", JobOutcome(.failed, message: "“a”…\nSubject: b – ü"))
        let text = mail([(nil, [try #require(JobMail.text(of: end, []))])]).1
        #expect(text.contains("\"a\"...\\nSubject: b - ü"))
    }
}
