import DirectoryClient
import DirectoryModel
import DirectorySandbox
import Foundation
import Glibc
import InMemoryLogging
import JobCore
import Logging
import Provisioning
import SystemPackage
import TestSupport
import Testing

@testable import ScriptService

/// The engine on a real directory server with entries that are no backup accounts, and no line of Swift for them.
@Suite struct EngineTests {
    private static let base = "ou=people,dc=stoney-cloud,dc=org"

    /// What the shipped example does, with its folders in a test's own.
    private func shippedScripts(_ folder: TestFolder) throws -> ScriptServiceConfiguration {
        mkdir(folder.path.appending("folders").string, 0o755)
        var paths: [String: FilePath] = [:]
        for name in ["add", "modify", "delete"] {
            let shipped = repository.pushing("etc/Provisioning/Script").appending("\(name).sh")
            let text = try String(contentsOfFile: shipped.string, encoding: .utf8)
                .replacing("/srv/folders", with: folder.path.appending("folders").string)
            paths[name] = try folder.write(text, to: "\(name).sh", mode: 0o755)
        }
        var configuration = ScriptServiceConfiguration()
        (configuration.add, configuration.modify) = (paths["add"], paths["modify"])
        configuration.delete = paths["delete"]
        configuration.attributes = ["mail"]
        configuration.timeLimit = .seconds(30)
        configuration.grace = .seconds(1)
        return configuration
    }

    /// Runs an engine with the service around a body, which is bound as the directory's manager.
    private func running(
        _ configuration: ScriptServiceConfiguration, _ folder: TestFolder,
        _ body: (DirectoryConnection) async throws -> Void
    ) async throws {
        try await DirectorySandbox.temporary(options: .testing) { sandbox in
            let uri = try ServerAddress(parsing: sandbox.uri)
            // The shipped access rules speak of backup accounts only; another service brings its own.
            let options = ConnectionOptions(
                credentials: .simple(bindDN: try DN(parsing: sandbox.adminDN), password: Secret(sandbox.adminPassword)))
            let manager = try await DirectoryConnection.open(uri, options: options)
            defer { manager.close() }
            var people = Entry(dn: try DN(parsing: Self.base))
            people["objectClass"] = ["organizationalUnit"]
            people["ou"] = ["people"]
            try await manager.add(people)

            mkdir(folder.path.appending("attempts").string, 0o700)
            let retry = RetryPolicy(
                maximumAttempts: 3, delay: .milliseconds(10), maximumDelay: .milliseconds(50))
            let log = InMemoryLogHandler()
            let engine = await Engine(
                Engine.Configuration(
                    servers: [uri], connection: options,
                    scope: WatchScope(base: people.dn, names: AttributeNames()),
                    policy: DecisionPolicy(calendar: .system), jobRetry: retry, directoryRetry: retry,
                    service: ScriptService(configuration: configuration)),
                ids: try JobIDSource(file: folder.path.appending("job-number")),
                logger: Logger(label: "test") { _ in log })
            await engine.start()
            do {
                try await body(manager)
            } catch {
                print("what the engine said:", log.entries.map { "\($0.message)" }.joined(separator: "\n"))
                await engine.stop(grace: .zero)
                throw error
            }
            await engine.stop(grace: .zero)
        }
    }

    private func dn(_ name: String) throws -> DN { try DN(parsing: Self.base).appending("cn", name) }

    private func add(_ name: String, mail: [AttributeValue], to directory: DirectoryConnection) async throws {
        var entry = Entry(dn: try dn(name))
        entry["objectClass"] = ["inetOrgPerson", "sstProvisioning"]
        entry["cn"] = [AttributeValue(name)]
        entry["sn"] = ["Doe"]
        entry["mail"] = mail
        entry["sstProvisioningMode"] = ["add"]
        entry["sstProvisioningState"] = ["0"]
        entry["sstProvisioningExecutionDate"] = ["0"]
        try await directory.add(entry)
    }

    private func wish(_ name: String, _ mode: String, _ directory: DirectoryConnection) async throws {
        try await directory.modify(
            dn(name),
            [.replace("sstProvisioningMode", AttributeValue(mode)), .replace("sstProvisioningState", "0")])
    }

    private func expect(_ name: String, _ mode: String, returned: String, _ directory: DirectoryConnection) async throws
    {
        try await eventually("\(name) is \(mode), returned \(returned)") {
            let entry = try await directory.entry(at: dn(name), attributes: ["*"])
            return entry?.text("sstProvisioningMode") == mode
                && entry?.text("sstProvisioningReturnValue") == returned
        }
    }

    @Test("entries of another kind are added, modified and deleted by the shipped scripts alone")
    func lifeOfAnEntry() async throws {
        let folder = try TestFolder()
        try await running(shippedScripts(folder), folder) { directory in
            try await add("Jane Doe", mail: ["jane@example.org"], to: directory)
            try await expect("Jane Doe", "added", returned: "0", directory)
            let owner = "folders/Jane Doe/.owner"
            #expect(try folder.text(owner) == "cn=Jane Doe,\(Self.base)\nmail: jane@example.org\n")

            try await directory.modify(dn("Jane Doe"), [.replace("mail", "jd@example.org")])
            try await wish("Jane Doe", "modify", directory)
            try await expect("Jane Doe", "modified", returned: "0", directory)
            #expect(try folder.text(owner).hasSuffix("\nmail: jd@example.org\n"))

            try await wish("Jane Doe", "delete", directory)
            try await expect("Jane Doe", "deleted", returned: "0", directory)
            #expect(!folder.exists("folders/Jane Doe"))
            #expect(folder.exists("folders"))
        }
    }

    @Test(
        "a script's code stands on the entry, a code that may be retried is retried, and another entry is not disturbed"
    )
    func failures() async throws {
        let folder = try TestFolder()
        let script = try folder.script(
            """
            case $1 in
            late) if [ "$PROV_ATTEMPT" -lt 3 ]; then exit 75; fi ;;
            bad) exit 6 ;;
            esac
            echo "$PROV_ATTEMPT" >> "$folder/$1"
            """)
        var configuration = ScriptServiceConfiguration()
        configuration.add = script
        configuration.timeLimit = .seconds(30)
        try await running(configuration, folder) { directory in
            for name in ["bad", "late", "good"] { try await add(name, mail: [], to: directory) }
            try await expect("bad", "adding", returned: "6", directory)
            try await expect("late", "added", returned: "0", directory)
            try await expect("good", "added", returned: "0", directory)
            #expect(try folder.text("late") == "3\n")
            #expect(try folder.text("good") == "1\n")
            #expect(!folder.exists("bad"))

            try await wish("good", "delete", directory)
            try await expect("good", "deleted", returned: "0", directory)
        }
    }

    @Test(
        "the shipped scripts refuse names that lead out of their folder, and change nothing",
        arguments: ["..", ".", "a/b", "../x"])
    func names(name: String) async throws {
        let folder = try TestFolder()
        let configuration = try shippedScripts(folder)
        try folder.write("precious", to: "folders/file")
        for operation in [Provisioning.Operation.add, .modify, .delete] {
            let failure = try await configuration.failure(operation, person(name))
            #expect(failure?.code == .undefinedError)
            #expect(failure?.output.contains("cannot be the name of a folder") == true)
        }
        let found = try FileManager.default.contentsOfDirectory(atPath: folder.path.appending("folders").string)
        #expect(found == ["file"])
        try FileManager.default.removeItem(atPath: folder.path.appending("folders").string)
        #expect(try await configuration.failure(.delete)?.failureClass == .retryable)
    }
}
