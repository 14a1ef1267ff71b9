import LDAP
import Sandbox
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

/// The engine on a real LDAP server with entries that are no backup accounts, and no line of Swift for them.
@Suite struct EngineTests {
    private static let base = "ou=people,dc=stoney-cloud,dc=org"

    /// What the shipped example does, with its directories in a test's own.
    private func shippedScripts(_ directory: TestDirectory) throws -> ScriptServiceConfiguration {
        mkdir(directory.path.appending("directories").string, 0o755)
        var paths: [String: FilePath] = [:]
        for name in ["add", "modify", "delete"] {
            let shipped = repository.pushing("etc/Provisioning/Script").appending("\(name).sh")
            let text = try String(contentsOfFile: shipped.string, encoding: .utf8)
                .replacing("/srv/directories", with: directory.path.appending("directories").string)
            paths[name] = try directory.write(text, to: "\(name).sh", mode: 0o755)
        }
        var configuration = ScriptServiceConfiguration()
        (configuration.add, configuration.modify) = (paths["add"], paths["modify"])
        configuration.delete = paths["delete"]
        configuration.attributes = ["mail"]
        configuration.timeLimit = .seconds(30)
        configuration.grace = .seconds(1)
        return configuration
    }

    /// Runs an engine with the service around a body, which is bound as the server's manager.
    private func running(
        _ configuration: ScriptServiceConfiguration, _ directory: TestDirectory, meeting condition: Filter? = nil,
        log: InMemoryLogHandler = InMemoryLogHandler(), _ body: (LDAPConnection) async throws -> Void
    ) async throws {
        try await LDAPSandbox.temporary(options: .testing) { sandbox in
            let uri = try ServerAddress(parsing: sandbox.uri)
            // The shipped access rules speak of backup accounts only; another service brings its own.
            let options = ConnectionOptions(
                credentials: .simple(bindDN: try DN(parsing: sandbox.adminDN), password: Secret(sandbox.adminPassword)))
            let manager = try await LDAPConnection.open(uri, options: options)
            defer { manager.close() }
            var people = Entry(dn: try DN(parsing: Self.base))
            people["objectClass"] = ["organizationalUnit"]
            people["ou"] = ["people"]
            try await manager.add(people)

            mkdir(directory.path.appending("attempts").string, 0o700)
            let retry = RetryPolicy(
                maximumAttempts: 3, delay: .milliseconds(10), maximumDelay: .milliseconds(50))
            var logger = Logger(label: "test") { _ in log }
            logger.logLevel = .debug
            let settings = Engine.Configuration(
                servers: [uri], connection: options,
                policy: DecisionPolicy(
                    scope: WatchScope(base: people.dn, condition: condition, names: AttributeNames()),
                    // As in the shipped settings: these entries have no sstIsActive.
                    deleteNeedsInactive: false),
                jobRetry: retry, ldapRetry: retry,
                service: ScriptService(configuration: configuration))
            let engine = await Engine(
                { settings }, ids: try JobIDSource(file: directory.path.appending("job-number")),
                logger: logger)
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

    private func add(_ name: String, mail: [AttributeValue], to ldap: LDAPConnection) async throws {
        var entry = Entry(dn: try dn(name))
        entry["objectClass"] = ["inetOrgPerson", "sstProvisioning"]
        entry["cn"] = [AttributeValue(name)]
        entry["sn"] = ["Doe"]
        entry["mail"] = mail
        entry["sstProvisioningMode"] = ["add"]
        entry["sstProvisioningState"] = ["0"]
        entry["sstProvisioningExecutionDate"] = ["0"]
        try await ldap.add(entry)
    }

    private func request(_ name: String, _ mode: String, _ ldap: LDAPConnection) async throws {
        try await ldap.modify(
            dn(name),
            [.replace("sstProvisioningMode", AttributeValue(mode)), .replace("sstProvisioningState", "0")])
    }

    private func expect(_ name: String, _ mode: String, returned: String, _ ldap: LDAPConnection) async throws {
        try await eventually("\(name) is \(mode), returned \(returned)") {
            let entry = try await ldap.entry(at: dn(name), attributes: ["*"])
            return entry?.text("sstProvisioningMode") == mode
                && entry?.text("sstProvisioningReturnValue") == returned
        }
    }

    @Test("entries of another kind are added, modified and deleted by the shipped scripts alone")
    func lifeOfAnEntry() async throws {
        let directory = try TestDirectory()
        try await running(shippedScripts(directory), directory) { ldap in
            try await add("Jane Doe", mail: ["jane@example.org"], to: ldap)
            try await expect("Jane Doe", "added", returned: "0", ldap)
            let owner = "directories/Jane Doe/.owner"
            #expect(try directory.text(owner) == "cn=Jane Doe,\(Self.base)\nmail: jane@example.org\n")

            try await ldap.modify(dn("Jane Doe"), [.replace("mail", "jd@example.org")])
            try await request("Jane Doe", "modify", ldap)
            try await expect("Jane Doe", "modified", returned: "0", ldap)
            #expect(try directory.text(owner).hasSuffix("\nmail: jd@example.org\n"))

            try await request("Jane Doe", "delete", ldap)
            try await expect("Jane Doe", "deleted", returned: "0", ldap)
            #expect(!directory.exists("directories/Jane Doe"))
            #expect(directory.exists("directories"))
        }
    }

    @Test(
        "a script's code is written to the entry, a retryable code is retried, and another entry is not affected"
    )
    func failures() async throws {
        let directory = try TestDirectory()
        let script = try directory.script(
            """
            case $1 in
            late) if [ "$PROV_ATTEMPT" -lt 3 ]; then exit 75; fi ;;
            bad) exit 6 ;;
            esac
            echo "$PROV_ATTEMPT" >> "$directory/$1"
            """)
        var configuration = ScriptServiceConfiguration()
        configuration.add = script
        configuration.timeLimit = .seconds(30)
        try await running(configuration, directory) { ldap in
            for name in ["bad", "late", "good"] { try await add(name, mail: [], to: ldap) }
            try await expect("bad", "adding", returned: "6", ldap)
            try await expect("late", "added", returned: "0", ldap)
            try await expect("good", "added", returned: "0", ldap)
            #expect(try directory.text("late") == "3\n")
            #expect(try directory.text("good") == "1\n")
            #expect(!directory.exists("bad"))

            try await request("good", "delete", ldap)
            try await expect("good", "deleted", returned: "0", ldap)
        }
    }

    /// Adds a person in a branch of its own, by default with the request `add`.
    @discardableResult
    private func add(
        _ name: String, in branch: String, to ldap: LDAPConnection, _ attributes: [AttributeName: AttributeValue] = [:]
    ) async throws -> DN {
        let parent = try DN(parsing: Self.base).appending("ou", branch)
        var unit = Entry(dn: parent)
        unit["objectClass"] = ["organizationalUnit"]
        unit["ou"] = [AttributeValue(branch)]
        try await ldap.add(unit)
        var entry = Entry(dn: parent.appending("cn", name))
        entry["objectClass"] = ["inetOrgPerson", "sstProvisioning"]
        entry["cn"] = [AttributeValue(name)]
        entry["sn"] = ["Doe"]
        entry["sstProvisioningMode"] = ["add"]
        entry["sstProvisioningState"] = ["0"]
        entry["sstProvisioningExecutionDate"] = ["0"]
        for (attribute, value) in attributes { entry[attribute] = [value] }
        try await ldap.add(entry)
        return entry.dn
    }

    private func expect(_ dn: DN, _ mode: String, returned: String, _ ldap: LDAPConnection) async throws {
        try await eventually("\(dn) is \(mode), returned \(returned)") {
            let entry = try await ldap.entry(at: dn, attributes: ["*"])
            return entry?.text("sstProvisioningMode") == mode
                && entry?.text("sstProvisioningReturnValue") == returned
        }
    }

    @Test(
        "two entries with one uid are refused until one is gone; one that SEARCH_FILTER leaves out does not count",
        arguments: [("add", "adding", "added"), ("modify", "modifying", "modified"), ("delete", "deleting", "deleted")])
    func sharedUID(request: String, claimed: String, done: String) async throws {
        let directory = try TestDirectory()
        let configuration = try directory.configuration("echo \"$PROV_DN\" >> $directory/ran")
        let (mode, state): (AttributeName, AttributeName) = ("sstProvisioningMode", "sstProvisioningState")
        try await running(configuration, directory, meeting: .equal("description", "ours")) { ldap in
            func add(_ name: String, in branch: String, uid: AttributeValue, isOurs: Bool = true) async throws -> DN {
                try await self.add(
                    name, in: branch, to: ldap,
                    ["uid": uid, "description": isOurs ? "ours" : "others", mode: "added", state: "20260101T000000Z"])
            }
            let asked: [Modification] = [.replace(mode, AttributeValue(request)), .replace(state, "0")]
            let entries = [
                try await add("Jane", in: "a", uid: "same"), try await add("John", in: "b", uid: "SAME"),
            ]
            for entry in entries { try await ldap.modify(entry, asked) }
            for entry in entries { try await expect(entry, claimed, returned: "1", ldap) }

            _ = try await add("Joe", in: "c", uid: "other", isOurs: false)
            let alone = try await add("Joan", in: "d", uid: "other")
            try await ldap.modify(alone, asked)
            try await expect(alone, done, returned: "0", ldap)

            try await ldap.delete(entries[1])
            try await ldap.modify(entries[0], asked)
            try await expect(entries[0], done, returned: "0", ldap)
            #expect(try directory.text("ran") == "\(alone)\n\(entries[0])\n")
        }
    }

    @Test("scripts for one NAME out of the DNs of two entries, or out of a uid and a DN, do not run at the same time")
    func sharedName() async throws {
        let directory = try TestDirectory()
        let configuration = try directory.configuration(
            """
            mkdir $directory/busy || exit 7
            while [ ! -e $directory/go ] && [ -e "$0" ]; do sleep 0.05; done
            rmdir $directory/busy
            """, { $0.timeLimit = .seconds(600) })
        let log = InMemoryLogHandler()
        try await running(configuration, directory, log: log) { ldap in
            let entries = [
                try await add("same", in: "a", to: ldap), try await add("same", in: "b", to: ldap),
                try await add("Jane", in: "c", to: ldap, ["uid": "same"]),
            ]
            try await eventually("two wait for the first") {
                let waiting = log.entries.map { "\($0.message)" }.filter { $0.contains("waits for another job") }
                return entries.count { entry in waiting.contains { $0.hasPrefix("\(entry) ") } } == 2
            }
            try directory.write("", to: "go")
            for entry in entries { try await expect(entry, "added", returned: "0", ldap) }
        }
    }

    @Test(
        "the shipped scripts refuse names that point outside their directory, and change nothing",
        arguments: ["..", ".", "a/b", "../x"])
    func names(name: String) async throws {
        let directory = try TestDirectory()
        let configuration = try shippedScripts(directory)
        try directory.write("precious", to: "directories/file")
        for operation in [Provisioning.Operation.add, .modify, .delete] {
            let failure = try await configuration.failure(operation, person(name))
            #expect(failure?.code == .undefinedError)
            #expect(failure?.output.contains("cannot be the name of a directory") == true)
        }
        let found = try FileManager.default.contentsOfDirectory(atPath: directory.path.appending("directories").string)
        #expect(found == ["file"])
        try FileManager.default.removeItem(atPath: directory.path.appending("directories").string)
        #expect(try await configuration.failure(.delete)?.failureClass == .retryable)
    }
}
