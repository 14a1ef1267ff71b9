import LDAP
import JobCore
import Provisioning
import Testing

@testable import ScriptService

/// Entries that cannot be handed to a script are refused whole, and nothing is run.
@Suite struct BadEntryTests {
    private func entry(uids: [AttributeValue], rdn: RDN) -> Entry {
        var entry = Entry(dn: DN.root.appending("ou", "people").appending(rdn))
        entry["uid"] = uids
        return entry
    }

    @Test("the name is the uid if there is exactly one, else the first value of the RDN")
    func name() throws {
        let named = RDN("cn", "Jane")
        #expect(try ScriptStep.name(of: entry(uids: ["jane"], rdn: named)) == "jane")
        #expect(try ScriptStep.name(of: entry(uids: [], rdn: named)) == "Jane")
        #expect(try ScriptStep.name(of: entry(uids: ["a", "b"], rdn: named)) == "Jane")
        #expect(try ScriptStep.name(of: entry(uids: ["10.0.0.0/8"], rdn: named)) == "10.0.0.0/8")
        let longest = AttributeValue(String(repeating: "ä", count: 127) + "x")
        #expect(try ScriptStep.name(of: entry(uids: [longest], rdn: named)).utf8.count == 255)
    }

    @Test(
        "a name that a program could misread is refused with the DN and the hint, and nothing is run",
        arguments: [
            "-rf", "--help", "", "a\nb", "a\u{7f}", "\u{85}", "a\u{2028}b", AttributeValue(bytes: [0x61, 0]),
            AttributeValue(bytes: [0xff, 0xfe]), AttributeValue(String(repeating: "x", count: 256)),
        ] as [AttributeValue])
    func refused(name: AttributeValue) async throws {
        let directory = try TestDirectory()
        let configuration = try directory.configuration("touch $directory/ran")
        for entry in [
            entry(uids: [name], rdn: RDN("cn", "jane")), entry(uids: [], rdn: RDN("cn", name)),
        ] {
            let failure = try await configuration.failure(.add, entry)
            #expect(failure?.code == .undefinedError)
            #expect(failure?.failureClass == .permanent)
            #expect(failure?.reason.contains("\(entry.dn)") == true)
            #expect(failure?.hint.contains("uid") == true)
        }
        #expect(!directory.exists("ran"))
    }

    @Test("the uid is unique where it is the name; the name is an exclusion key, wherever it is from")
    func unique() {
        let service = ScriptService(configuration: ScriptServiceConfiguration())
        #expect(service.uniqueAttribute == "uid")
        for (uids, unique, name) in [
            (["jane"], ["jane"], "jane"), ([], [], "Jane"), (["a", "b"], [], "Jane"),
        ] as [([AttributeValue], [AttributeValue], String)] {
            let entry = entry(uids: uids, rdn: RDN("cn", "Jane"))
            for operation in Provisioning.Operation.allCases {
                #expect(service.uniqueValues(of: entry, for: operation)["uid"] ?? [] == unique)
            }
            #expect(service.exclusionNames(of: entry) == [name])
        }
    }

    @Test("before the script of delete, and of nothing else, another entry with the uid is searched again")
    func uniqueAgain() async throws {
        let directory = try TestDirectory()
        let configuration = try directory.configuration("echo $PROV_ACTION >> $directory/ran")
        for operation in [Provisioning.Operation.add, .modify, .delete] {
            let request = ProvisioningRequest(
                operation: operation, entry: person(), job: JobID(17), attempt: 1,
                demandUnique: { throw ProvisioningFailure(.undefinedError, reason: "twice", hint: "") })
            let steps = try await ScriptService(configuration: configuration).plan(request)
            var failure: ProvisioningFailure?
            for step in steps {
                do { try await step.perform(in: .alone(1, scripts: ScriptRunner())) } catch {
                    failure = error as? ProvisioningFailure
                }
            }
            #expect(failure?.reason == (operation == .delete ? "twice" : nil))
        }
        #expect(try directory.text("ran") == "add\nmodify\n")
    }

    @Test("an RDN in hexadecimal digits is not a name")
    func encoded() async throws {
        let rdn = RDN(RDN.Assertion("cn", AttributeValue(bytes: [4, 1, 0x61]), isEncoded: true))
        #expect(throws: ProvisioningFailure.self) { try ScriptStep.name(of: entry(uids: [], rdn: rdn)) }
    }

    @Test("the longest value that a variable can hold reaches the script, one byte more is refused by name")
    func longValue() async throws {
        let directory = try TestDirectory()
        let configuration = try directory.configuration("printf %s \"${#PROV_ATTR_CN_1}\" > $directory/length") {
            $0.attributes = ["cn"]
        }
        let longest = EntryVariables.largestVariable - "PROV_ATTR_CN_1=".utf8.count
        let value = String(repeating: "x", count: longest)
        try await configuration.carryOut(.add, person("jane", ["cn": [AttributeValue(value)]]))
        #expect(try directory.text("length") == "\(longest)")

        let failure = try await configuration.failure(.add, person("jane", ["cn": [AttributeValue(value + "x")]]))
        #expect(failure?.code == .undefinedError)
        #expect(failure?.reason.contains("uid=jane,ou=people: cn makes a variable of 131072 bytes") == true)
        #expect(failure?.hint.contains("take cn out of ATTRIBUTES") == true)
    }

    @Test("values that are too long together are refused before the kernel does, and slightly fewer are accepted")
    func longTotal() async throws {
        let directory = try TestDirectory()
        let configuration = try directory.configuration("printf %s \"$PROV_ATTR_CN_COUNT\" > $directory/count") {
            $0.attributes = ["cn"]
        }
        func entry(_ count: Int) -> Entry {
            person("jane", ["cn": (0..<count).map { AttributeValue("\($0) " + String(repeating: "x", count: 1000)) }])
        }
        try await configuration.carryOut(.add, entry(1000))
        #expect(try directory.text("count") == "1000")
        let failure = try await configuration.failure(.add, entry(1100))
        #expect(failure?.reason.contains("with cn the attributes are longer than 1048576 bytes") == true)
        #expect(failure?.failureClass == .permanent)
    }
}
