import Foundation
import JobCore
import Logging
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import Daemon

/// When what is told of failed jobs is sent, and with what.
@Suite struct MailDigestTests {
    private let start = Timestamp(secondsSince1970: 1_800_000_000)
    private func at(_ minutes: Int) -> Timestamp { start + .seconds(minutes * 60) }
    private func digest() -> MailDigest { MailDigest() }

    private func texts(_ sections: [MailDigest.Section]) -> [[String]] { sections.map(\.texts) }

    @Test("the first failure is sent at once, and failures within the hour at its end in one mail")
    func hourly() {
        var digest = digest()
        #expect(digest.due(now: at(0)) == nil)
        digest.ended(JobID(1), "1", at: at(0))
        #expect(digest.due(now: at(0)) == at(0))
        #expect(texts(digest.take(now: at(0))) == [["1"]])
        digest.ended(JobID(2), "2", at: at(10))
        digest.ended(JobID(3), nil, at: at(10))
        #expect(digest.due(now: at(10)) == at(60))
        #expect(digest.take(now: at(10)).isEmpty)
        digest.ended(JobID(4), "4", at: at(59))
        #expect(texts(digest.take(now: at(60))) == [["2", "4"]])
        #expect(digest.due(now: at(61)) == nil)
        digest.ended(JobID(5), "5", at: at(200))
        #expect(digest.due(now: at(200)) == at(200))
    }

    @Test("a run's failures are in one mail, which waits for the last of its jobs and names the run")
    func run() {
        var digest = digest()
        let run = digest.open("backup daily")
        for job in 1...3 { digest.add(JobID(UInt64(job)), to: run) }
        digest.ended(JobID(1), "1", at: at(0))
        digest.ended(JobID(9), "of no run", at: at(1))
        #expect(texts(digest.take(now: at(1))) == [["of no run"]])
        digest.ended(JobID(2), nil, at: at(100))
        #expect(digest.take(now: at(100)).isEmpty)
        digest.close(run)
        #expect(digest.take(now: at(101)).isEmpty)
        digest.ended(JobID(3), "3", at: at(300))
        let sent = digest.take(now: at(300))
        #expect(texts(sent) == [["1", "3"]] && sent.map(\.title) == ["backup daily"])
    }

    @Test("a run that is closed after its last job has ended is sent then, a run without failures is not sent")
    func closedLate() {
        var digest = digest()
        let (failed, good) = (digest.open("failed"), digest.open("good"))
        digest.add(JobID(1), to: failed)
        digest.add(JobID(2), to: good)
        digest.ended(JobID(1), "1", at: at(0))
        digest.ended(JobID(2), nil, at: at(0))
        #expect(digest.take(now: at(0)).isEmpty)
        digest.close(failed)
        digest.close(good)
        #expect(digest.take(now: at(1)).map(\.title) == ["failed"])
        #expect(digest.due(now: at(1)) == nil)
    }

    @Test("the failures of a run that does not end are sent after a day")
    func longRun() {
        var digest = digest()
        let run = digest.open("hangs")
        digest.add(JobID(1), to: run)
        digest.add(JobID(2), to: run)
        digest.ended(JobID(1), "1", at: at(0))
        #expect(digest.due(now: at(5)) == at(24 * 60))
        #expect(texts(digest.take(now: at(24 * 60))) == [["1"]])
        digest.ended(JobID(2), "2", at: at(25 * 60))
        digest.close(run)
        #expect(texts(digest.take(now: at(26 * 60))) == [["2"]])
    }

    @Test("a section keeps a limited number of texts and counts the others")
    func many() {
        var digest = digest()
        for job in 1...1_000 { digest.ended(JobID(UInt64(job)), "\(job)", at: at(0)) }
        let sent = digest.take(now: at(0))
        #expect(sent.first?.texts.count == MailDigest.mostTexts && sent.first?.count == 1_000)
    }

    @Test("a clock that was set back delays a mail by the interval at most")
    func clockSetBack() {
        var digest = digest()
        digest.ended(JobID(1), "1", at: at(3_000))
        #expect(!digest.take(now: at(3_000)).isEmpty)
        digest.ended(JobID(2), "2", at: at(0))
        #expect(digest.take(now: at(0)).isEmpty)
        #expect(digest.due(now: at(0)) == at(60))
        #expect(texts(digest.take(now: at(60))) == [["2"]])
    }

    @Test("at the end all texts are sent, also of runs that have not ended")
    func end() {
        var digest = digest()
        digest.ended(JobID(1), "1", at: at(0))
        _ = digest.take(now: at(0))
        let run = digest.open("run")
        digest.add(JobID(2), to: run)
        digest.add(JobID(3), to: run)
        digest.ended(JobID(2), "2", at: at(1))
        digest.ended(JobID(4), "4", at: at(1))
        #expect(texts(digest.takeAll()) == [["4"], ["2"]])
        #expect(digest.takeAll().isEmpty)
    }
}

/// The same through the mailer, a real transport and a mail server.
@Suite struct DigestMailerTests {
    private static let start = Timestamp(secondsSince1970: 1_800_000_000)

    private static func mailer(
        _ sink: MailSink, _ clock: ManualClock,
        _ change: @escaping @Sendable (inout Mailer.Configuration) -> Void = { _ in }
    ) throws -> Mailer {
        // As the daemon has it: a transport may refuse a mail once.
        var configuration = Mailer.Configuration()
        configuration.recipients = [try MailAddress(parsing: "operator@example.org")]
        configuration.senderName = "Backup"
        configuration.sendmail = sink.sendmail
        configuration.pauses = [.milliseconds(100), .seconds(1), .seconds(10)]
        return Mailer(
            { [configuration] in
                var configuration = configuration
                change(&configuration)
                return configuration
            }, wallClock: clock, logger: Logger(label: "mail") { StreamLogHandler.standardError(label: $0) }
        ) { sections in
            let texts = sections.flatMap(\.texts)
            return ("\(texts.count) jobs failed", texts.joined(separator: "\n"))
        }
    }

    @Test("what happened while there were no recipients does not delay the first mail")
    func noRecipients() async throws {
        let sink = try MailSink()
        let clock = ManualClock(Self.start)
        let recipients = Mutex<[MailAddress]>([])
        let asked = Mutex(0)
        let mailer = try Self.mailer(sink, clock) { configuration in
            configuration.recipients = recipients.withLock(\.self)
            asked.withLock { $0 += 1 }
        }
        async let sending: Void = mailer.run()
        mailer.ended(JobID(1), "first")
        try await eventually("it was to be sent") { asked.withLock(\.self) == 1 }
        try recipients.withLock { $0 = [try MailAddress(parsing: "operator@example.org")] }
        mailer.ended(JobID(2), "second")
        #expect(try await sink.mails(1).first?.body.contains("second") == true)
        mailer.finish()
        await sending
    }

    @Test("two mails an hour apart, and the rest at the stop: nothing is lost")
    func life() async throws {
        let sink = try MailSink()
        let clock = ManualClock(Self.start)
        let mailer = try Self.mailer(sink, clock)
        let (stopping, stop) = AsyncStream<Never>.makeStream()
        let sending = Task { await mailer.run(grace: .seconds(600)) { for await _ in stopping {} } }
        mailer.ended(JobID(1), "first")
        _ = try await sink.mails(1)
        mailer.ended(JobID(2), "second")
        mailer.ended(JobID(3), "third")
        try await eventually("the alarm is set") { clock.deadlines.contains(Self.start + .seconds(3_600)) }
        clock.advance(to: Self.start + .seconds(3_600))
        #expect(try await sink.mails(2).map(\.headers["Subject"]).contains("2 jobs failed"))
        let run = mailer.open("run")
        mailer.add(JobID(4), to: run)
        mailer.add(JobID(5), to: run)
        mailer.ended(JobID(4), "fourth")
        stop.finish()
        await sending.value
        let bodies = try await sink.mails(3).map { $0.body.trimmingCharacters(in: .whitespacesAndNewlines) }
        #expect(Set(bodies.map { $0.replacing("\r\n", with: "\n") }) == ["first", "second\nthird", "fourth"])
    }
}
