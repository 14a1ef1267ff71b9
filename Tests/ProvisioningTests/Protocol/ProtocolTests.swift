import LDAP
import JobCore
import Provisioning
import Testing

@Suite struct ProtocolTests {
    @Test("the nine modes are parsed and written")
    func modes() {
        let spellings = ["add", "adding", "added", "modify", "modifying", "modified", "delete", "deleting", "deleted"]
        #expect(ProvisioningMode.all.map(\.description) == spellings)
        for spelling in spellings {
            #expect(ProvisioningMode(spelling)?.description == spelling)
            #expect(ProvisioningMode(spelling.uppercased())?.description == spelling)
        }
        for other in ["", "addin", "ad d", "ädd", "remove"] { #expect(ProvisioningMode(other) == nil) }
    }

    @Test("the exit codes have the old names and numbers")
    func exitCodes() {
        #expect(ProvisioningExitCode.allCases.map(\.rawValue) == Array(0...7))
        #expect(ProvisioningExitCode.runtimeRequirementNotSatisfied.name == "PERL_VERSION_NOT_STATISFIED")
    }

    @Test("a timestamp is written as YYYYMMDDThhmmssZ in UTC")
    func timestamp() {
        #expect(Timestamp(secondsSince1970: 0).text == "19700101T000000Z")
        #expect(Timestamp(secondsSince1970: 1_795_262_401).text == "20261121T120001Z")
    }

    @Test(
        "an entry without mode or state takes no part",
        arguments: [("add", nil), (nil, "0"), ("bogus", "0")] as [(String?, String?)])
    func foreign(mode: String?, state: String?) throws {
        #expect(AccountStatus(try Fixture.entry(mode: mode, state: state), names: AttributeNames()) == nil)
    }

    @Test("F4, F5: every write is one modify that names what it replaces")
    func writes() throws {
        let names = AttributeNames()
        let request = try Fixture.status(mode: "add")
        let claim = EntryWrite.claim(request, holder: nil, names: names)
        #expect(
            claim.description
                == "delete sstProvisioningMode: add; add sstProvisioningMode: adding; replace sstProvisioningReturnValue"
        )
        let asserted = Filter.and([
            .equal("entryUUID", AttributeValue(request.uuid.description)), .equal("entryCSN", request.csn),
        ])
        #expect(claim.assertion == asserted)

        let claimed = try Fixture.status(mode: "adding")
        let time = Timestamp(secondsSince1970: 0)
        let finish = EntryWrite.finish(claimed, at: time, names: names)
        #expect(
            finish.description
                == "delete sstProvisioningMode: adding; add sstProvisioningMode: added; replace sstProvisioningState: 19700101T000000Z; replace sstProvisioningReturnValue: 0"
        )
        #expect(finish.assertion == asserted)

        let refusal = EntryWrite.fail(request, .undefinedError, names: names)
        #expect(
            refusal.description
                == "delete sstProvisioningMode: add; add sstProvisioningMode: adding; replace sstProvisioningReturnValue: 1"
        )
        let failure = EntryWrite.fail(claimed, .cannotSetQuota, names: names)
        #expect(
            failure.description
                == "delete sstProvisioningMode: adding; add sstProvisioningMode: adding; replace sstProvisioningReturnValue: 6"
        )
        let resume = EntryWrite.resume(claimed, holder: nil, names: names)
        #expect(
            resume.description == "delete sstProvisioningMode: adding; add sstProvisioningMode: adding"
                && resume.assertion == asserted)
        let retry = EntryWrite.retry(try Fixture.status(mode: "adding", returnValue: "6"), names: names)
        #expect(
            retry.description
                == "delete sstProvisioningMode: adding; add sstProvisioningMode: add; replace sstProvisioningReturnValue"
        )
    }

    @Test("a claim attribute is set by the claim and exactly that value is deleted by the finish")
    func claimAttribute() throws {
        var names = AttributeNames()
        names.claim = "provisioningClaim"
        let claim = EntryWrite.claim(try Fixture.status(mode: "add"), holder: "one 17", names: names)
        #expect(claim.modifications.contains(.replace("provisioningClaim", "one 17")))
        let claimed = try Fixture.status(mode: "adding", claim: "one 17", names: names)
        let finish = EntryWrite.finish(claimed, at: Timestamp(secondsSince1970: 0), names: names)
        #expect(finish.modifications.contains(.delete("provisioningClaim", "one 17")))
        let again = try Fixture.status(mode: "add", claim: "one 16", names: names)
        let refusal = EntryWrite.fail(again, .undefinedError, names: names)
        #expect(refusal.modifications.contains(.delete("provisioningClaim", "one 16")) && refusal.claim == nil)
        // After a lost answer the entry tells whose claim has arrived.
        #expect(claim.isFulfilled(by: claimed))
        #expect(!claim.isFulfilled(by: try Fixture.status(mode: "adding", claim: "two 4", names: names)))
        let done = try Fixture.status(mode: "added", state: "19700101T000000Z", returnValue: "0", names: names)
        #expect(finish.isFulfilled(by: done))
    }

    @Test("the pending filter uses the state's index, finds requests and unfinished claims, and no failed ones")
    func pendingFilter() throws {
        let scope = WatchScope(base: try DN(parsing: "dc=org"), hosts: ["a*b"], names: AttributeNames())
        #expect(
            scope.pending.description
                == "(&(sstProvisioningState=0)(|(sstProvisioningMode=add)(sstProvisioningMode=modify)(sstProvisioningMode=delete)"
                + "(&(|(sstProvisioningMode=adding)(sstProvisioningMode=modifying)(sstProvisioningMode=deleting))"
                + "(!(sstProvisioningReturnValue=*))))(|(host=a\\2ab)))")
    }
}
