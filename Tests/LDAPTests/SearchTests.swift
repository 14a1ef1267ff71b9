import LDAP
import Sandbox
import Testing

@Suite(.serialized, .timeLimit(.minutes(10)))
struct SearchTests {
    private func fill(_ connection: LDAPConnection, count: Int) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<count { group.addTask { try await connection.add(.test("n\(number)")) } }
            try await group.waitForAll()
        }
    }

    @Test func `a search returns every entry once, with any page size`() async throws {
        try await withSandbox { _, connection in
            try await fill(connection, count: 25)
            for pageSize in [0, 1, 7, 25, 26, 500] {
                let request = SearchRequest(
                    base: .tests, scope: .oneLevel, filter: .equal("objectClass", "inetOrgPerson"), attributes: ["cn"],
                    pageSize: pageSize)
                let names = try await connection.search(request).all().compactMap { $0.text("cn") }
                #expect(names.count == 25)
                #expect(Set(names) == Set((0..<25).map { "n\($0)" }))
            }
            let subtree = try await connection.search(SearchRequest(base: .tests)).all()
            #expect(subtree.count == 26)
            let base = try await connection.search(SearchRequest(base: .tests, scope: .base)).all()
            #expect(base.map(\.dn) == [.tests])
        }
    }

    @Test func `the next page is asked for only when the consumer wants it`() async throws {
        try await withSandbox { _, connection in
            try await fill(connection, count: 6)
            let request = SearchRequest(base: .tests, scope: .oneLevel, attributes: ["cn"], pageSize: 2)
            var iterator = connection.search(request).makeAsyncIterator()
            var seen = [try #require(try await iterator.next()).dn, try #require(try await iterator.next()).dn]
            // Entries that are deleted now can only be missing from pages that have not been requested.
            for number in 0..<6 where !seen.contains(.test("n\(number)")) {
                try await connection.delete(.test("n\(number)"))
            }
            while let entry = try await iterator.next() { seen.append(entry.dn) }
            #expect(seen.count == 2)
        }
    }

    @Test(arguments: [0, 100, 500])
    func `a result that the server cuts off is an error that names the hint`(pageSize: Int) async throws {
        try await withSandbox { sandbox, manager in
            // Neither the Manager nor the daemon meets the usual limit of 500.
            let base = try DN(parsing: SandboxTree.accountsDN)
            for number in 0..<520 {
                var entry = Entry.test("n\(number)")
                entry.dn = base.appending("cn", "n\(number)")
                try await manager.add(entry)
            }
            var options = try sandbox.options()
            options.credentials = .simple(
                bindDN: try DN(parsing: sandbox.selfcareDN), password: Secret(sandbox.selfcarePassword))
            let connection = try await LDAPConnection.open(ServerAddress(parsing: sandbox.uri), options: options)
            defer { connection.close() }
            let search = connection.search(SearchRequest(base: base, attributes: ["cn"], pageSize: pageSize))
            let error = try #require(await failure { () async throws(LDAPError) in try await search.all() })
            #expect(error.code == .sizeLimitExceeded)
            #expect("\(error)".contains("not whole"))
            #expect("\(error)".contains("limits dn.exact"))
        }
    }

    @Test func `a missing base is an error for a search and nil for an entry`() async throws {
        try await withSandbox { _, connection in
            let search = connection.search(SearchRequest(base: .test("missing")))
            let error = await failure { () async throws(LDAPError) in try await search.all() }
            #expect(error?.code == .noSuchObject)
            let missing = try await connection.entry(at: .test("missing"))
            #expect(missing == nil)
        }
    }
}
