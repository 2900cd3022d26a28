// Package plugintest tests the whole plugin, from its HTTP endpoints down to the rows, over a
// store: its behaviour towards clients, hosts and providers must be the same on every store.
package plugintest

import (
	"slices"
	"testing"

	"github.com/gin-gonic/gin"

	"example.com/threepid/store"
)

// Store is the interface of the module's own stores.
type Store interface {
	store.Store
	store.Accounts
}

// opener returns a new, empty store that lives as long as the test.
type opener = func(testing.TB) Store

// test is one behaviour of the plugin.
type test struct {
	name string
	run  func(t *testing.T, open opener)
}

// Run runs every test as a parallel subtest of t. open returns a new, empty store, and closes it in
// a Cleanup if necessary.
func Run(t *testing.T, open func(testing.TB) Store) {
	t.Helper()
	run(t, open, allTests())
}

// RunStorage runs only the tests whose result depends on the store: those in which requests share a
// row, those with several nodes, and one of each kind that reads what it wrote. The others run
// once, in Run.
func RunStorage(t *testing.T, open func(testing.TB) Store) {
	t.Helper()
	names := storageTests()
	tests := slices.DeleteFunc(allTests(), func(test test) bool { return !slices.Contains(names, test.name) })
	if len(tests) != len(names) {
		t.Fatalf("storageTests names %d tests, of which %d exist", len(names), len(tests))
	}
	run(t, open, tests)
}

func run(t *testing.T, open opener, tests []test) {
	t.Helper()
	gin.SetMode(gin.TestMode)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, open)
		})
	}
}

func allTests() []test {
	return slices.Concat(
		accountTests(), accountFailureTests(), accountHostTests(), accountLegacyTests(), approveTests(), attemptTests(), budgetTests(),
		callTests(), concealTests(), concurrencyTests(), delegateTests(), endpointTests(), eventTests(), eventEdgeTests(), failureTests(), guardTests(),
		historyTests(), hostTests(), httpTests(), limitTests(), lookUpTests(), policyTests(), receiptTests(), recycledTests(), renewTests(),
		identityTests(), identityDelegateTests(), requestTokenTests(), serverKeyTests(), submitTokenTests(), testNumberTests(), textTests(), tryTests(),
		unblockTests(), warningTests(),
	)
}

// storageTests are the names of the tests that RunStorage runs.
func storageTests() []string {
	return []string{
		// Accounts.
		"AccountFromCodeToDelete", "AccountListIsOldestFirst", "AccountAddByTheSameUserAgain", "AccountFreedNumberIsProvedAgain",
		"AccountAddOfANumberThatIsTaken", "AccountAddOfOneSessionByMany", "AccountAddOfOneNumberByMany",
		"AccountAddRacesTheHost", "AccountRelease", "AccountThatOnlyLooksUp",
		// Attempts, and the lease under which an SMS is sent.
		"Attempts", "ResendWithinLifetimeSendsTheSameToken", "ResendAfterLifetimeSendsANewToken", "OneSecretForTwoPurposes",
		"IdenticalRequestsAtOnceSendOneSMS", "IdenticalRequestsOnTwoNodes", "WaitersLearnHowTheSendEnded", "AttemptsAtOnce",
		"CallerHangsUp", "LeaseOfANodeThatDied", "TokenOfAnEarlierSMS", "TokenSettlesItsAttempt", "ClaimRunAgainAfterItWasKept",
		"ApproveIsAskedOnceByIdenticalRequests",
		// Validations.
		"SubmitRightToken", "SubmitSessionPastItsLifetime", "ValidatedAndRedeem", "RenewedByALaterCode", "NotRenewedOnceRedeemed",
		"RecycledNumberVoidsValidations", "RecycledNumberVoidsCodes", "RecycledNumberIsProvedAgain",
		"RecycledNumberWithoutAnAccount", "RecycledNumberOfClocksThatDiffer", "RecycledNumberIsRememberedAsLongAsSessions",
		"RecycledNumberWhileRedeemed", "RecycledNumberWhileAdded", "ServerKeyIsReplaced",
		"DelegateWholeFlow", "DelegateRightTokenTwiceAtOnce", "CallsTakeANumberThrough",
		// Tries, counted before the code is compared.
		"SubmitFiveWrongTriesUseATokenUp", "ParallelGuessesGetFiveTries", "GuessesAtOnceOnAllNodesGetFiveComparisons",
		"NewTokenDoesNotForgetWrongTries", "HundredWrongTriesLockANumber", "RightTokenForgetsWrongTries",
		"RightTokenIsTakenAtTheLastTry",
		// Limits, and the guard that nodes share.
		"LimitOfANumber", "LimitOfCountryAndAll", "BudgetOfSeveralNodes", "LimitsHoldAtOnceAndOnAllNodes", "LastSMSIsSharedByIdenticalRequests",
		"RefusalsWriteNothing", "RecordsExpire", "Unblock", "GuardIsSharedByNodes", "VerdictsOutliveTheirNode",
		// What operators see and do.
		"StatisticsOfTwoNodes", "HistoryIsDeleted", "Explain", "Actions", "AllBlocksAndLift", "LiftOnAnotherNode", "Export", "Erase",
		"ReceiptsOfAnSMS", "ReceiptOnAnotherNode", "UndeliveredIsNotUnconfirmed",
	}
}
