import BackupService
import Testing

@testable import JobCore
@testable import prov_backup_rsnapshot

@Suite struct BackupHealthTests {
    private let health = BackupHealth()
    private let now = Timestamp(secondsSince1970: 1_800_000_000)

    private func job(_ account: String, _ level: String = "daily", id: UInt64 = 1, type: JobType = .backup) -> Job {
        Job(
            id: JobID(id), type: type, name: level, level: level, subject: JobSubject(account), client: account,
            created: now)
    }

    private func end(_ account: String, _ result: JobResult, level: String = "daily") {
        end(job(account, level), result)
    }

    private func end(_ job: Job, _ result: JobResult) {
        var job = job
        (job.ended, job.result, job.message) = (now, result, "because")
        health.ended(job)
    }

    @Test("only accounts with a problem are held, and a success ends it")
    func problems() {
        end("1", .success)
        #expect(health.summary == BackupHealth.Summary())
        end("2", .failed)
        end("2", .wrongConfiguration, level: "weekly")
        end("1", .missed)
        #expect(health.summary.failed == 2)
        #expect(health.summary.problems.map(\.account) == ["1", "2", "2"])
        #expect(health.summary.problems.first?.failure?.message == "because")
        end("2", .success)
        end("1", .warnings)
        #expect(health.summary.problems.map(\.level) == ["weekly"])
    }

    @Test("a cancelled job and jobs of other types change nothing")
    func others() {
        end("1", .failed)
        end("1", .aborted)
        end(job("2", type: .admin), .failed)
        #expect(health.summary.problems.map(\.account) == ["1"])
    }

    @Test("a deleted account has no problems any more, one whose delete failed keeps them")
    func deleted() {
        func delete(_ account: String, _ result: JobResult) {
            end(job(account, "delete", type: .provisioning), result)
        }
        end("1", .failed)
        end("2", .failed)
        delete("1", .success)
        delete("2", .failed)
        #expect(health.summary.problems.map(\.account) == ["2"])
    }

    @Test("a level is overdue from the time by which a success was due until there is one")
    func overdue() {
        func note(due: Timestamp?) {
            health.noted(account: "1", level: .daily, lastSuccess: nil, due: due, now: now)
        }
        note(due: now + .seconds(1))
        #expect(health.summary.overdue == 0)
        note(due: now + .seconds(-1))
        #expect(health.summary.overdue == 1)
        #expect(health.summary.problems.first?.overdue == now + .seconds(-1))
        end("1", .warnings)
        #expect(health.summary.overdue == 1)
        note(due: nil)
        #expect(health.summary.overdue == 0)
        note(due: now + .seconds(-1))
        end("1", .success)
        #expect(health.summary.overdue == 0)
    }

    @Test("a success that is recorded with the snapshots resolves older failures and no newer one")
    func recorded() {
        end("1", .failed)
        health.noted(account: "1", level: .daily, lastSuccess: now + .seconds(-1), due: nil, now: now)
        #expect(health.summary.failed == 1)
        health.noted(account: "1", level: .daily, lastSuccess: now + .seconds(1), due: nil, now: now)
        #expect(health.summary.failed == 1, "recorded by a wrong clock")
        health.noted(account: "1", level: .daily, lastSuccess: now + .seconds(1), due: nil, now: now + .seconds(1))
        #expect(health.summary.failed == 0)
    }

    @Test(
        "what a whole review does not come to counts no longer, unless its job ended meanwhile; a failure counts again when a review comes to it"
    )
    func review() {
        end("gone", .failed)
        end("gone", .failed, level: "weekly")
        end("stays", .failed)
        let review = health.beginReview()
        health.noted(account: "stays", level: .daily, lastSuccess: nil, due: nil, now: now)
        end("new", .failed)
        health.finish(review)
        #expect(health.summary.problems.map(\.account) == ["new", "stays"])
        let next = health.beginReview()
        for account in ["gone", "stays"] {
            health.noted(account: account, level: .daily, lastSuccess: nil, due: nil, now: now)
        }
        health.finish(next)
        #expect(health.summary.problems.map { "\($0.account) \($0.level)" } == ["gone daily", "stays daily"])
    }

    @Test("jobs of an earlier run count as their newest did")
    func recall() {
        for (number, result) in [(1, JobResult.failed), (2, .success), (3, .failed)] {
            let account = number == 3 ? "2" : "1"
            var job = Job(
                id: JobID(UInt64(number)), type: .backup, name: "daily", level: "daily",
                subject: JobSubject(account),
                client: account, created: now)
            (job.status, job.result, job.ended) = (result.status, result, now)
            health.ended(job)
        }
        #expect(health.summary.problems.map(\.failure?.job) == [3])
    }
}
