import JobCore
import Testing

@testable import prov_backup_rsnapshot

/// Jobs that a schedule does not submit again.
@Suite @MainActor struct OpenJobFilterTests {
    /// Open jobs as a daemon has them.
    private static func standing(_ jobs: [(number: UInt64, request: JobRequest)], level: String = "daily")
        -> OpenJobFilter
    {
        let registry = JobRegistry()
        for (number, request) in jobs {
            registry.open(
                Job(
                    id: JobID(number), type: request.type, name: request.name, level: level, subject: request.subject,
                    client: request.client, created: .distantPast))
        }
        return OpenJobFilter(registry)
    }

    private static func backup(_ account: Int, _ level: String = "daily") -> JobRequest {
        JobRequest(
            type: .backup, name: level, level: level, subject: JobSubject("account \(account)"), client: "\(account)",
            retry: RetryPolicy(maximumAttempts: 1, delay: .zero, maximumDelay: .zero), work: { _ in .success })
    }

    @Test(
        "a job is skipped while the previous one is open, and one notice contains both; others are submitted")
    func leftOut() throws {
        // A handler has given them another level.
        let standing = Self.standing([(17, Self.backup(1)), (18, Self.backup(2, "hourly"))], level: "other")
        let admitted = [Self.backup(1), Self.backup(2), Self.backup(3)].map { standing.admits($0) }
        #expect(admitted == [false, true, true])
        let notice = try #require(standing.notice)
        #expect(notice.contains("job 17 of 1") && !notice.contains("18"))
    }

    @Test("without skipped jobs there is no notice, and of many only some are named")
    func notice() throws {
        let none = Self.standing([])
        #expect(none.admits(Self.backup(1)) == true)
        #expect(none.notice == nil)
        let many = Self.standing((1...40).map { (UInt64($0), Self.backup($0)) })
        for number in 1...40 { #expect(many.admits(Self.backup(number)) == false) }
        let notice = try #require(many.notice)
        #expect(notice.contains("job 5 of 5") && !notice.contains("job 6 of 6") && notice.contains("35 more"))
    }
}
