import EventLoop
import Foundation
import JobCore
import Logging
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import Daemon

@Suite struct MailerTests {
    private let directory: TemporaryDirectory
    private let lines = Lines()

    init() throws { directory = try TemporaryDirectory() }

    /// Every line that is logged.
    final class Lines: Sendable {
        private let kept = Mutex<[String]>([])
        var all: [String] { kept.withLock { $0 } }
        func keep(_ line: String) { kept.withLock { $0.append(line) } }
    }

    struct Handler: LogHandler {
        let lines: Lines
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.trace
        func log(event: LogEvent) { lines.keep("\(event.level): \(event.message)") }
        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }
    }

    private func mailer(
        _ sendmail: FilePath, to recipients: [String] = ["operator@example.org"], name: String = "Backup-Rsnapshot",
        pauses: [Duration] = [], capacity: Int = 100, clock: any SteadyClock = ContinuousClock()
    ) throws -> Mailer {
        var configuration = Mailer.Configuration()
        configuration.recipients = try recipients.map { try MailAddress(parsing: $0) }
        configuration.senderName = name
        configuration.sendmail = sendmail
        configuration.pauses = pauses
        return Mailer(
            { [configuration] in configuration }, capacity: capacity, clock: clock,
            logger: Logger(label: "mail") { [lines] _ in Handler(lines: lines) }, compose: { _ in ("", "") })
    }

    private func script(_ body: String) throws -> FilePath {
        // The file that is executed was never written by this process: a child that is just being started elsewhere may
        // still hold what was, and the kernel refuses to run it then.
        let text = try directory.file("body-\(UUID().uuidString.prefix(8))", "\(body)\n")
        let program = directory.path.appending("sendmail-\(UUID().uuidString.prefix(8))")
        let maker = try ChildProcess([
            "/bin/sh", "-c", "{ echo '#!/bin/sh'; cat \(text); } >\(program) && chmod 755 \(program)",
        ])
        try #require(maker.wait() == 0)
        return program
    }

    // MARK: Through a real mail transport

    @Test("a mail goes through the system's transport and is well formed, with any content")
    func wellFormed() async throws {
        let sink = try MailSink()
        let mailer = try mailer(
            sink.sendmail, to: ["operator@example.org", "second.person@example.org"], name: "Sicherung \"Süd\" 🗄")
        let body =
            "Grüezi\n.\nFrom here\n" + String(repeating: "langes Wort äöü ", count: 200) + "\r\nBcc: x@example.org\n"
        let subject = "Störung: " + String(repeating: "Konto 3724300 ", count: 30)
        mailer.send(subject: subject, body: body)
        mailer.finish()
        await mailer.run()
        let mail = try #require(try await sink.mails(1).first)
        #expect(
            mail.headers["Subject"] == subject.trimmingCharacters(in: .whitespaces)
                || mail.headers["Subject"] == subject)
        #expect(mail.fromName == "Sicherung \"Süd\" 🗄")
        #expect(mail.to == ["operator@example.org", "second.person@example.org"])
        #expect(mail.envelope.count == 2)
        #expect(mail.headers["Auto-Submitted"] == "auto-generated")
        #expect(mail.headers["Message-ID"]?.hasSuffix("@root>") == true)
        // A line end is one character to Swift, whichever of the two it is.
        #expect(mail.body.replacing("\r\n", with: "\n").hasPrefix(body.replacing("\r\n", with: "\n")))
        #expect(mail.lines <= 78)
        #expect(lines.all.isEmpty)
    }

    @Test("ASCII is not encoded: a long subject is folded, and long lines of the body are kept")
    func plain() async throws {
        let sink = try MailSink()
        let mailer = try mailer(sink.sendmail, pauses: [.milliseconds(100), .seconds(1), .seconds(10)])
        let subjects = [
            "backup1.example.org (production): 12 jobs failed: " + String(repeating: "daily 3724300 ", count: 20)
                + "end",
            " a subject  with   blanks " + String(repeating: "x", count: 100) + "  at the end",
        ]
        let body = "a line of " + String(repeating: "many words ", count: 80) + "end\n"
        for subject in subjects { mailer.send(subject: subject, body: body) }
        mailer.finish()
        await mailer.run()
        let mails = try await sink.mails(2)
        #expect(Set(mails.compactMap { $0.headers["Subject"] }) == Set(subjects.map { String($0.trimmingPrefix(" ")) }))
        for mail in mails {
            #expect(mail.headers["Content-Transfer-Encoding"] == "7bit")
            #expect(mail.body.replacing("\r\n", with: "\n").hasPrefix(body))
        }
    }

    @Test("no header can be injected by subject, name or body")
    func injection() async throws {
        let sink = try MailSink()
        let mailer = try mailer(
            sink.sendmail, name: "x\r\nBcc: evil@example.org", pauses: [.milliseconds(100), .seconds(1), .seconds(10)])
        mailer.send(subject: "a\nBcc: evil@example.org\n\nbody\u{2028}\u{0}", body: "plain\n")
        mailer.send(subject: "=?UTF-8?B?Zm9v?=", body: "Bcc: evil@example.org\n")
        mailer.finish()
        await mailer.run()
        let mails = try await sink.mails(2)
        for mail in mails {
            #expect(mail.envelope.count == 1)
            #expect(!mail.names.contains("Bcc"))
        }
        let subjects = Set(mails.map { $0.headers["Subject"] })
        #expect(subjects == ["a\\nBcc: evil@example.org\\n\\nbody\\u{2028}\\u{0}", "=?UTF-8?B?Zm9v?="])
    }

    // MARK: When mail cannot be sent

    @Test("queued mails are sent at the end; a sendmail that hangs gets the grace period")
    func end() async throws {
        let seen = directory.path.appending("seen")
        let mailer = try mailer(script("cat >>\(seen)"))
        await mailer.run(grace: .seconds(600)) {
            mailer.send(subject: "first", body: "")
            mailer.send(subject: "last", body: "")
        }
        let text = try String(contentsOfFile: seen.string, encoding: .utf8)
        #expect(text.contains("first") && text.contains("last"))
        #expect(lines.all.isEmpty)
        let hanging = try self.mailer(script("sleep 3600"))
        await hanging.run(grace: .milliseconds(10)) { hanging.send(subject: "never", body: "") }
        #expect(lines.all == ["warning: 1 mail was not sent before the end"])
    }

    @Test("at the end a mail that waits for its next attempt is tried again, and so are those behind it")
    func endInPause() async throws {
        let mark = directory.path.appending("mark")
        let mailer = try mailer(
            script("[ -e \(mark) ] || exit 75; cat >>\(mark)"), pauses: [.seconds(3_600), .seconds(3_600)])
        await mailer.run(grace: .seconds(600)) {
            mailer.send(subject: "first", body: "")
            mailer.send(subject: "last", body: "")
            do {
                try await eventually("it waits for its next attempt") { !lines.all.isEmpty }
                _ = try directory.file("mark", "")
            } catch { Issue.record(error) }
        }
        let text = try String(contentsOfFile: mark.string, encoding: .utf8)
        #expect(text.contains("first") && text.contains("last"))
        #expect(lines.all.last == "notice: mail can be sent again")
    }

    @Test(
        "each attempt goes to the recipients of that time; when there are none any more the mail is not sent",
        arguments: [["right@example.org"], []])
    func changedRecipients(later: [String]) async throws {
        let mails = directory.path.appending("mails")
        let recipients = Mutex(["wrong@example.org"])
        let program = try script("cat >>\(mails); ! grep -q wrong \(mails) || { : >\(mails); exit 67; }")
        let mailer = Mailer(
            {
                var configuration = Mailer.Configuration()
                configuration.recipients = recipients.withLock { $0.compactMap { try? MailAddress(parsing: $0) } }
                (configuration.sendmail, configuration.pauses) = (program, [.seconds(3_600)])
                return configuration
            }, logger: Logger(label: "mail") { [lines] _ in Handler(lines: lines) }, compose: { _ in ("", "") })
        await mailer.run(grace: .seconds(600)) {
            mailer.send(subject: "one", body: "")
            do { try await eventually("it is refused") { !lines.all.isEmpty } } catch { Issue.record(error) }
            recipients.withLock { $0 = later }
        }
        let text = try String(contentsOfFile: mails.string, encoding: .utf8)
        #expect(text.contains("To: right@example.org") == !later.isEmpty && text.isEmpty == later.isEmpty)
        #expect(!lines.all.contains { $0.contains("not sent") })
    }

    @Test("mails that are refused do not delay the others")
    func refusedAlone() async throws {
        let mails = directory.path.appending("mails")
        let program = try script(
            "cat >\(mails).new; ! grep -q bad \(mails).new || exit 65; cat \(mails).new >>\(mails)")
        let clock = ManualSteadyClock()
        let mailer = try mailer(program, pauses: Array(repeating: .seconds(3_600), count: 27), clock: clock)
        @Sendable func sent() -> String { (try? String(contentsOfFile: mails.string, encoding: .utf8)) ?? "" }
        await mailer.run(grace: .seconds(600)) {
            do {
                for number in 1...3 { mailer.send(subject: "bad \(number)", body: "") }
                mailer.send(subject: "first", body: "")
                try await eventually("the good one is sent") { sent().contains("first") }
                try await eventually("it waits") { clock.sleepers == 1 }
                mailer.send(subject: "second", body: "")
                try await eventually("the next good one is sent") { sent().contains("second") }
            } catch { Issue.record(error) }
            mailer.send(subject: "last", body: "")
        }
        #expect(sent().contains("last") && !sent().contains("bad"))
        #expect(lines.all.last == "warning: 3 mails were not sent before the end")
    }

    @Test("the next attempt of a mail does not wait for the longer pause of another one")
    func ownPauses() async throws {
        let (attempts, mark) = (directory.path.appending("attempts"), directory.path.appending("mark"))
        let program = try script("if [ -e \(mark) ]; then cat >>\(mark); else echo x >>\(attempts); exit 75; fi")
        let clock = ManualSteadyClock()
        let mailer = try mailer(program, pauses: [.seconds(10), .seconds(1_000_000_000)], clock: clock)
        @Sendable func text(_ file: FilePath) -> String {
            (try? String(contentsOfFile: file.string, encoding: .utf8)) ?? ""
        }
        await mailer.run(grace: .seconds(600)) {
            do {
                mailer.send(subject: "old", body: "")
                try await eventually("it is refused twice") {
                    clock.advance(by: .seconds(10))
                    return text(attempts) == "x\nx\n"
                }
                mailer.send(subject: "new", body: "")
                try await eventually("the new one is refused, too") { text(attempts) == "x\nx\nx\n" }
                _ = try directory.file("mark", "")
                try await eventually("it is sent") {
                    clock.advance(by: .seconds(10))
                    return text(mark).contains("new")
                }
            } catch { Issue.record(error) }
            #expect(!text(mark).contains("old"))
        }
        #expect(text(mark).contains("old"))
    }

    @Test("a missing sendmail is one line with its hint, and each mail is tried again before it is dropped")
    func missing() async throws {
        let mailer = try mailer("/none/sendmail", pauses: [.milliseconds(1), .milliseconds(1)])
        await mailer.run(grace: .seconds(600)) {
            mailer.send(subject: "one", body: "")
            mailer.send(subject: "two", body: "")
            do { try await eventually("both are dropped") { lines.all.count >= 3 } } catch { Issue.record(error) }
        }
        #expect(lines.all.count == 3)
        #expect(lines.all.first?.contains("/none/sendmail cannot be started") == true)
        #expect(lines.all.first?.contains("SENDMAIL in [Mail]") == true)
        #expect(
            lines.all.dropFirst() == [
                "error: the mail \"one\" is dropped after its last attempt",
                "error: the mail \"two\" is dropped after its last attempt",
            ])
    }

    @Test("a mail that is refused first is sent by a later attempt, and both changes are logged")
    func again() async throws {
        let mark = directory.path.appending("mark")
        let mailer = try mailer(
            script(
                "if [ -e \(mark) ]; then cat >\(mark).mail; else : >\(mark); echo the server is away >&2; exit 75; fi"),
            pauses: [.milliseconds(1)])
        mailer.send(subject: "one", body: "text")
        mailer.finish()
        await mailer.run()
        #expect(lines.all.count == 2)
        #expect(lines.all.first?.contains("exit code 75: the server is away; see the log") == true)
        #expect(lines.all.last == "notice: mail can be sent again")
        #expect(try String(contentsOfFile: "\(mark).mail", encoding: .utf8).hasSuffix("\n\ntext\n"))
    }

    @Test("a sendmail that hangs is killed with what it started")
    func hanging() async throws {
        let pids = directory.path.appending("pids")
        let clock = ManualSteadyClock()
        let program = try script("trap '' TERM; sleep 1000 & echo $! >\(pids); echo $$ >>\(pids); wait; wait")
        let sending = Task {
            try await Mailer.handOver("mail", to: program, timeLimit: .seconds(60), clock: clock)
        }
        try await eventually("it hangs") {
            FileManager.default.contents(atPath: pids.string)?.count { $0 == UInt8(ascii: "\n") } == 2
        }
        clock.advance(by: .seconds(60))
        let refusal = await #expect(throws: CommandFailure.self) { try await sending.value }
        #expect(refusal?.reason.contains("took longer than") == true)
        let started = try String(contentsOfFile: pids.string, encoding: .utf8).split(separator: "\n").compactMap {
            Int32($0)
        }
        #expect(started.count == 2)
        try await eventually("nothing is left") {
            started.allSatisfy { pid in
                // A zombie that its new parent has not yet reaped is over.
                let status = FileManager.default.contents(atPath: "/proc/\(pid)/stat").map {
                    String(decoding: $0, as: UTF8.self)
                }
                return status == nil || status?.contains(") Z ") == true
            }
        }
    }

    @Test("a full queue drops new mails with one line, without blocking")
    func full() async throws {
        let mails = directory.path.appending("mails")
        let mailer = try mailer(script("cat >/dev/null; echo x >>\(mails)"), capacity: 2)
        for number in 0..<10 { mailer.send(subject: "\(number)", body: "") }
        #expect(lines.all.count == 1)
        #expect(lines.all.first?.contains("too many mails") == true)
        mailer.finish()
        await mailer.run()
        #expect(try String(contentsOfFile: mails.string, encoding: .utf8) == "x\nx\n")
    }

    @Test("without recipients sendmail is not started")
    func noRecipients() async throws {
        let mailer = try mailer("/none/sendmail", to: [])
        mailer.send(subject: "one", body: "")
        mailer.finish()
        await mailer.run()
        #expect(lines.all.isEmpty)
    }

    @Test("a cancelled mailer stops during a pause and logs the number of remaining mails")
    func cancelled() async throws {
        let mailer = try mailer("/none/sendmail", pauses: [.seconds(3_600)])
        mailer.send(subject: "one", body: "")
        mailer.send(subject: "two", body: "")
        let running = Task { await mailer.run() }
        try await eventually("it has been tried") { !lines.all.isEmpty }
        running.cancel()
        await running.value
        #expect(
            lines.all.last == "warning: 1 mail was not sent before the end"
                || lines.all.last == "warning: 2 mails were not sent before the end")
    }

    // MARK: Addresses

    @Test(
        "invalid mail addresses are refused",
        arguments: [
            "", "a b@example.org", "a@", "@example.org", "a@b@c", "a@example.org,b@example.org", "a\n@example.org",
            "<a@example.org>",
            "-oQ/tmp", "a..b@example.org", "ä@example.org", "a@example.org\r\nBcc:x",
        ])
    func refused(text: String) {
        let error = #expect(throws: SettingValueError.self) { try MailAddress(parsing: text) }
        #expect(error?.hint.contains("operator@example.org") == true)
    }

    @Test(
        "user names and usual addresses are accepted",
        arguments: ["root", "a.b+c@example.org", "x_y-z@mail.example.org"])
    func accepted(text: String) throws { #expect(try MailAddress(parsing: text).description == text) }
}
