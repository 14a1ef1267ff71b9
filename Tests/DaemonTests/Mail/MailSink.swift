import Daemon
import Foundation
import SystemPackage
import TestSupport
import Testing

/// A mail server on the loopback address that stores what it is given, and a `sendmail` (msmtp) that hands mail to it.
final class MailSink {
    private let directory: TemporaryDirectory
    private let server: ChildProcess
    let sendmail: FilePath

    /// The server: SMTP (RFC 5321) in its simplest form; each mail becomes a file, renamed into place when it is whole.
    private static let program = """
        import os, socketserver, sys
        class Sink(socketserver.StreamRequestHandler):
            def handle(self):
                say = lambda text: self.wfile.write(text.encode() + b"\\r\\n")
                say("220 sink")
                recipients, count = [], 0
                while True:
                    line = self.rfile.readline()
                    if not line: return
                    verb = line.strip().upper()
                    if verb.startswith(b"RCPT"): recipients.append(line.strip().decode())
                    if verb == b"DATA":
                        say("354 go on")
                        content = b""
                        while (line := self.rfile.readline()) not in (b".\\r\\n", b""):
                            assert len(line) <= 1000
                            content += line[1:] if line.startswith(b".") else line
                        name = os.path.join(sys.argv[1], f"{os.urandom(8).hex()}")
                        with open(name + ".part", "wb") as file:
                            file.write("\\n".join(recipients).encode() + b"\\n\\n" + content)
                        os.rename(name + ".part", name + ".mail")
                        say("250 stored")
                    elif verb == b"QUIT":
                        return say("221 bye")
                    else:
                        say("250 sink")
        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Sink)
        print(server.server_address[1], flush=True)
        server.serve_forever()
        """

    /// Reads a stored mail by the means of Python's library, strictly: any defect counts.
    private static let parser = """
        import email, email.policy, json, sys
        recipients, _, content = open(sys.argv[1], "rb").read().partition(b"\\n\\n")
        # As a mail transport with a domain of its own does it.
        content = content.replace(b"<root>", b"<root@example.org>", 1)
        mail = email.message_from_bytes(content, policy=email.policy.strict.clone(raise_on_defect=True))
        assert not mail.defects, mail.defects
        for name, value in mail.items(): assert not value.defects, (name, value.defects)
        print(json.dumps({
            "envelope": recipients.decode().split("\\n"), "headers": {name: str(value) for name, value in mail.items()},
            "names": mail.keys(), "fromName": mail["From"].addresses[0].display_name,
            "to": [address.addr_spec for address in mail["To"].addresses], "body": mail.get_content(),
            "lines": max(len(line) for line in content.split(b"\\r\\n"))}))
        """

    struct Mail: Decodable {
        let envelope: [String]
        let headers: [String: String]
        let names: [String]
        let fromName: String
        let to: [String]
        let body: String
        let lines: Int
    }

    static let msmtp = "/usr/bin/msmtp"
    static let python =
        ["/usr/bin/python3", "/usr/local/bin/python3"].first { FileManager.default.isExecutableFile(atPath: $0) }
        ?? ProcessInfo.processInfo.environment["PATH"]?.split(separator: ":").map { "\($0)/python3" }
        .first { FileManager.default.isExecutableFile(atPath: $0) } ?? "/usr/bin/python3"

    init() throws {
        try #require(
            FileManager.default.isExecutableFile(atPath: Self.msmtp), "\(Self.msmtp) is missing: run bin/setup")
        try #require(FileManager.default.isExecutableFile(atPath: Self.python), "python3 is missing: install it")
        directory = try TemporaryDirectory()
        server = try ChildProcess([Self.python, "-c", Self.program, directory.path.string])
        let port = server.line()
        try #require(Int(port) != nil, "the mail server of the test did not start")
        let settings = try directory.file(
            "msmtprc", "account default\nhost 127.0.0.1\nport \(port)\nfrom daemon@example.org\ntls off\nauth off\n")
        sendmail = try directory.file(
            "sendmail", "#!/bin/sh\nexec \(Self.msmtp) -C \(settings) \"$@\"\n", mode: 0o755)
        try makeExecutable(sendmail.string)
    }

    deinit {
        server.kill()
        server.wait()
    }

    private func stored() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: directory.path.string).filter { $0.hasSuffix(".mail") }
            .sorted()
    }

    /// Waits until so many mails have come, and reads them.
    func mails(_ count: Int) async throws -> [Mail] {
        try await eventually("\(count) mails have come") { try stored().count >= count }
        var mails: [Mail] = []
        for name in try stored() {
            let reader = try ChildProcess([Self.python, "-c", Self.parser, directory.path.appending(name).string])
            let line = await reader.line()
            #expect(await reader.wait() == 0, "the mail is not well formed")
            mails.append(try JSONDecoder().decode(Mail.self, from: Data(line.utf8)))
        }
        return mails
    }
}
