import LDAP
import Sandbox
import Testing

@Suite(.serialized, .timeLimit(.minutes(10)))
struct OperationTests {
    @Test func `each operation does at the server what it says`() async throws {
        try await withSandbox { sandbox, connection in
            #expect(try await connection.whoAmI().lowercased() == "dn:" + sandbox.adminDN.lowercased())
            try await connection.add(.test("one"))
            let stored = try #require(try await connection.entry(at: .test("one"), attributes: ["title", "sn"]))
            #expect(stored.dn == .test("one"))
            #expect(stored["title"] == ["open"])
            #expect(stored["cn"].isEmpty)
            try await connection.modify(.test("one"), [.add("description", "a", "b"), .replace("title", "shut")])
            try await connection.rename(.test("one"), to: RDN("cn", "two"))
            #expect(try await connection.entry(at: .test("one")) == nil)
            let renamed = try #require(try await connection.entry(at: .test("two")))
            #expect(Set(renamed["description"]) == ["a", "b"])
            #expect(renamed["cn"] == ["two"])
            let suffix = try DN(parsing: SandboxTree.suffix)
            try await connection.rename(
                .test("two"), to: RDN("cn", "three"), deleteOldRDN: false, newSuperior: suffix)
            let moved = suffix.appending("cn", "three")
            #expect(Set(try #require(try await connection.entry(at: moved))["cn"]) == ["two", "three"])
            try await connection.delete(moved)
            #expect(try await connection.entry(at: moved) == nil)
        }
    }

    @Test func `values of any bytes come back as they were`() async throws {
        try await withSandbox { _, connection in
            let bytes = AttributeValue(bytes: (0...255).map(UInt8.init) + [0, 0])
            var entry = Entry.test("odd, \"name\" + = <é> #")
            entry["userPassword"] = [bytes]
            entry["jpegPhoto"] = [bytes, AttributeValue(bytes: [UInt8](repeating: 7, count: 300_000))]
            try await connection.add(entry)
            let stored = try #require(try await connection.entry(at: entry.dn))
            #expect(stored.dn == entry.dn)
            #expect(stored["userPassword"] == [bytes])
            #expect(Set(stored["jpegPhoto"]) == Set(entry["jpegPhoto"]))
        }
    }

    @Test func `the root DSE says what the server offers`() async throws {
        try await withSandbox { _, connection in
            let features = try await connection.features()
            #expect(features == [.assertion, .postRead, .pagedResults, .contentSync, .whoAmI])
        }
    }

    @Test func `a modify returns the entry as it is afterwards when that is asked for`() async throws {
        try await withSandbox { _, connection in
            try await connection.add(.test("one"))
            let before = try #require(try await connection.entry(at: .test("one"), attributes: ["entryCSN"]))
            let after = try await connection.modify(
                .test("one"), [.replace("title", "shut")], postRead: ["title", "entryCSN"])
            #expect(after?.dn == .test("one"))
            #expect(after?.text("title") == "shut")
            #expect(after?.text("entryCSN") != before.text("entryCSN"))
            let now = try #require(try await connection.entry(at: .test("one"), attributes: ["entryCSN"]))
            #expect(after?.text("entryCSN") == now.text("entryCSN"))
            #expect(try await connection.modify(.test("one"), [.replace("title", "open")]) == nil)
        }
    }

    @Test
    func
        `a lost compare-and-set is noSuchAttribute, a failed assertion is assertionFailed, and neither changes anything`()
        async throws
    {
        try await withSandbox { _, connection in
            try await connection.add(.test("one"))
            let swap = [Modification.delete("title", "open"), .add("title", "claimed")]
            try await connection.modify(.test("one"), swap, asserting: .equal("sn", "one"))
            let lost = await failure { () async throws(LDAPError) in
                try await connection.modify(.test("one"), swap)
            }
            #expect(lost?.code == .noSuchAttribute)
            #expect(lost?.operation == "modify \(DN.test("one"))")
            let refused = await failure { () async throws(LDAPError) in
                try await connection.modify(
                    .test("one"), [.replace("title", "stolen")],
                    asserting: .and([.equal("title", "open"), .not(.present("description"))]))
            }
            #expect(refused?.code == .assertionFailed)
            #expect(try await connection.entry(at: .test("one"))?["title"] == ["claimed"])
        }
    }

    @Test func `every kind of filter can be asserted and searched with`() async throws {
        try await withSandbox { _, connection in
            var entry = Entry.test("one")
            entry["employeeNumber"] = ["a*(b)\\c"]
            try await connection.add(entry)
            let written = [
                "(title=o*p*n)", "(title=*pe*)", "(createTimestamp>=20000101000000Z)",
                "(createTimestamp<=20990101000000Z)", "(sn~=one)", "(sn:dn:caseExactMatch:=one)",
                "(&(sn=one)(|(sn=two)(!(sn=two))))",
            ]
            let filters: [Filter] =
                [
                    .and([.equal("sn", "one"), .present("title")]), .or([.equal("sn", "two"), .equal("sn", "one")]),
                    .not(.equal("sn", "two")), .equal("employeeNumber", "a*(b)\\c"), .and([]),
                ] + (try written.map { try #require(Filter(parsing: $0)) })
            for filter in filters {
                try await connection.modify(.test("one"), [.replace("title", "open")], asserting: filter)
                let found = try await connection.search(SearchRequest(base: .test("one"), filter: filter)).all()
                #expect(found.map(\.dn) == [.test("one")], "\(filter)")
            }
        }
    }

    @Test func `an error names the operation, the entry, the server and the hint`() async throws {
        try await withSandbox { sandbox, connection in
            let missing = DN.test("parent").appending("cn", "child")
            let error = try #require(
                await failure { () async throws(LDAPError) in
                    try await connection.add(Entry(dn: missing, attributes: Entry.test("x").attributes))
                })
            #expect(error.code == .noSuchObject)
            #expect(error.matchedDN == "\(DN.tests)")
            #expect("\(error)".contains("add \(missing) at \(sandbox.uri): noSuchObject (32)"))
            #expect("\(error)".contains("check the DN"))
            #expect(!error.isConnectionLost)
            let twice = await failure { () async throws(LDAPError) in
                try await connection.add(
                    Entry(
                        dn: .tests,
                        attributes: [Attribute("objectClass", ["organizationalUnit"]), Attribute("ou", ["tests"])]))
            }
            #expect(twice?.code == .entryAlreadyExists)
            let encoding = await failure { () async throws(LDAPError) in
                try await connection.modify(.test("x"), [.replace(AttributeName(unchecked: "a\0b"), "c")])
            }
            #expect(encoding?.code == .paramError)
            #expect(try await connection.entry(at: .tests) != nil, "the connection goes on")
        }
    }

    @Test func `two hundred modifies are under way at once and each gets its own answer`() async throws {
        try await withSandbox { _, connection in
            for number in 0..<10 { try await connection.add(.test("n\(number)")) }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<200 {
                    group.addTask {
                        let dn = DN.test("n\(number % 10)")
                        let value = AttributeValue("v\(number)")
                        let entry = try await connection.modify(
                            dn, [.add("description", value)], postRead: ["description"])
                        #expect(entry?.dn == dn)
                        #expect(entry?["description"].contains(value) == true)
                        let error = await failure { () async throws(LDAPError) in
                            try await connection.modify(.test("missing\(number)"), [.add("description", value)])
                        }
                        #expect(error?.operation == "modify \(DN.test("missing\(number)"))")
                    }
                }
                try await group.waitForAll()
            }
            for number in 0..<10 {
                #expect(try await connection.entry(at: .test("n\(number)"))?["description"].count == 20)
            }
        }
    }
}
