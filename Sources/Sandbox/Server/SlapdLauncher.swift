import EventLoop
import Glibc
import SystemPackage

/// Starts slapd and the tools that go with it.
struct SlapdLauncher: Sendable {
    /// Where slapd and slapadd are searched for, as many users' PATH lacks these directories.
    private static let programDirectories: [FilePath] = ["/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin"]
    /// No `ldaprc` that lies about, see ldap.conf(5): slapd is a user of the LDAP library, too.
    private static let environment = [
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "LDAPNOINIT": "1",
    ]

    let files: SandboxFiles

    /// The path of a program.
    ///
    /// - Throws: ``SandboxError/Code/missingProgram`` with the package that brings it.
    static func program(_ name: String) throws(SandboxError) -> FilePath {
        for directory in programDirectories where access(directory.appending(name).string, X_OK) == 0 {
            return directory.appending(name)
        }
        let package = name == "openssl" ? "openssl" : "slapd"
        throw SandboxError(
            .missingProgram, "the program \(name) is missing", hint: "run bin/setup, or apt-get install \(package)")
    }

    /// Runs a tool to its end.
    ///
    /// - Throws: ``SandboxError/Code/serverFailed`` with what it said, where it ends with anything but 0.
    static func run(_ name: String, _ arguments: [String]) async throws(SandboxError) {
        let program = try program(name)
        let outcome: ChildProcess.Outcome
        do {
            outcome = try await ChildProcess.run(
                ChildProcess.Program(program, arguments, environment: environment, in: "."), keeping: 1 << 20)
        } catch {
            throw SandboxError(.serverFailed, "cannot run \(program): \(error)", hint: "run bin/setup --check")
        }
        guard outcome.termination == .exited(code: 0) else {
            let said = lastLines(of: String(decoding: outcome.error, as: UTF8.self))
            throw SandboxError(
                .serverFailed, "\(name) failed (\(outcome.termination)): \(said)", hint: "see what it says")
        }
    }

    /// Starts slapd in a session of its own, so that it sees no signal of a terminal and outlives this process, unless
    /// it is tied to a lifeline.
    ///
    /// - Returns: the process, which may be ending again already.
    func start(listeningOn uris: [String], lifeline: Lifeline?) async throws(SandboxError) -> SlapdProcess {
        let arguments =
            ["-c", lifeline == nil ? Self.detached : Self.tied, "slapd-of-sandbox", files.log.string]
            + [try Self.program("slapd").string, "-d", "none", "-f", files.configuration.string]
            + ["-h", uris.joined(separator: " ")]
        let output: String
        do {
            let outcome = try await ChildProcess.run(
                ChildProcess.Program("/bin/sh", arguments, environment: Self.environment),
                input: lifeline.map { .file($0.reader) } ?? .empty, keeping: 4096)
            output = String(decoding: outcome.output, as: UTF8.self)
        } catch {
            throw SandboxError(.serverFailed, "cannot start slapd: \(error)", hint: "run bin/setup --check")
        }
        guard let id = Int32(output.filter { !$0.isWhitespace }) else {
            throw SandboxError(.serverFailed, "cannot start slapd: \(lastWords)", hint: "run bin/setup --check")
        }
        return SlapdProcess(id: id, configuration: files.configuration)
    }

    /// The end of slapd's log.
    var lastWords: String {
        guard let text = try? TextFile.read(files.log), !text.isEmpty else { return "it said nothing" }
        return Self.lastLines(of: text)
    }

    private static func lastLines(of text: String) -> String {
        let lines = text.split(separator: "\n").suffix(8).map { line in
            // slapd begins each line with the time and the thread, in hexadecimal: 6b010fa2.06331457 0x7fbfca9a3200
            let words = line.split(separator: " ", maxSplits: 2)
            return words.count == 3 && words[1].hasPrefix("0x") ? String(words[2]) : String(line)
        }
        return lines.joined(separator: "\n")
    }

    /// slapd makes room for as many connections as it may have open files, which costs gigabytes where that is unlimited.
    private static let limit = "ulimit -n 4096 2>/dev/null; log=$1; shift; "

    /// `sh -c … slapd-of-sandbox LOG PROGRAM ARGUMENT…`: writes the process id.
    private static let detached = limit + #""$@" </dev/null >>"$log" 2>&1 & echo $!"#

    /// The same, with a shell that stays as parent: it reads the lifeline, which ends when all writers are gone, however
    /// they went, and then ends slapd. As its parent it alone reaps slapd, so the id cannot be another's meanwhile.
    /// The outer shell waits for the id (the inner one closes its output after it) before it ends.
    private static let tied =
        limit + #"""
            exec 3<&0 </dev/null
            id=$(
                (
                    "$@" 3<&- >>"$log" 2>&1 &
                    slapd=$!
                    echo $slapd
                    exec >/dev/null 2>&1
                    read -r _ <&3
                    kill -KILL $slapd
                    wait $slapd
                ) &
            )
            echo $id
            """#
}
